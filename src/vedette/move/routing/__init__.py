"""Routing: which node serves a key, and how another takes over without doing it twice.

`Router` chooses by rendezvous hashing, with zones, health and bounded load. `Placements` make the choice stick in a
database that all regions reach, under an epoch that fences off a node that was replaced.

Example:
    >>> router = Router([Node("eu-1", "eu"), Node("us-1", "us"), Node("us-2", "us")])
    >>> router.route("charge:ch_1", zone="eu"), router.route("charge:ch_1", zone="us")
    ('eu-1', 'us-2')
"""

from vedette.move.routing.placement import Placement, Placements
from vedette.move.routing.router import BOUND, VERSION, Node, Router

__all__ = ["BOUND", "VERSION", "Node", "Placement", "Placements", "Router"]
