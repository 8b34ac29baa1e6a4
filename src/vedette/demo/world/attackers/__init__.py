"""Attackers, one kind a file."""
