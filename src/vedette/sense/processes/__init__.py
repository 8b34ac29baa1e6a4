"""Processes of a host, from what Sysmon, the Security log and osquery tell of them."""

from vedette.sense.processes.cut import LIMIT, MAX_LIMIT, Deed, Mark, Node, Tree, cut, timeline
from vedette.sense.processes.facts import KINDS, Doing, Fact, read
from vedette.sense.processes.tree import Done, Process, Woven, weave

__all__ = [
    "KINDS",
    "LIMIT",
    "MAX_LIMIT",
    "Deed",
    "Doing",
    "Done",
    "Fact",
    "Mark",
    "Node",
    "Process",
    "Tree",
    "Woven",
    "cut",
    "read",
    "timeline",
    "weave",
]
