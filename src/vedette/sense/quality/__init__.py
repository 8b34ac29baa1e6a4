"""The quality of what a source sends: its rhythm, its clock, and the shape of the fields that rules rest on.

Each is learned from the stream itself, a pure function of the records in their order. The laws are in the modules; what
a stage makes of them is in `run.pipeline.quality`.
"""
