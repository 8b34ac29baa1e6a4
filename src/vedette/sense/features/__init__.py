"""Features: what is known about an event's entities at its time and place in the log, computed one way everywhere.

`definition` reads what to compute, `engine` keeps the state of a running system, `replay` computes the same numbers
over a table of history with the same kernel, to the bit. State is whole numbers; floats appear only where it is read.

Example:
    >>> from vedette.sense.features.definition import load_features, shipped
    >>> load_features(shipped("card_transactions")).source
    'card_transactions'
"""
