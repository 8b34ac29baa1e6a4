"""Threat intelligence at work: indicators that the stream looks for, retro-hunts, other servers, actors."""
