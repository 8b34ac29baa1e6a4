"""The logs of a working day, one source a file."""
