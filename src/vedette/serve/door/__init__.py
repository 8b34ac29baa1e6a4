"""The door: a process that holds the connections of `vedette serve --supervised`, so that the worker need not.

It reads plain requests by hand, sends what came in one moment to the worker as one frame, and writes the answers. It
proves, decides and keeps nothing. A connection on which anything else is asked is handed to the worker, socket and all.
"""
