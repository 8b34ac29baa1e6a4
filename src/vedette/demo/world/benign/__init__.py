"""Unusual things that honest people do, one kind a file: what looks like an attack and is none."""
