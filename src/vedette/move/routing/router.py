"""Which node serves a key: rendezvous hashing, the same answer in every process and every version.

Each node scores each key; the highest score serves it, the next one takes over when that is away. So a node that comes
takes its share from all others and moves no key between them, one that goes gives its keys to all others, and the
order of all nodes for a key is known to everybody without a word. The measurements that chose it over jump, Maglev and
a ring: docs/decisions/0070-routing.md.

A score is the product of two 64-bit hashes (BLAKE2b of the key, and of the node's name made odd) modulo 2^64.
Nothing of the platform, of Python's own hash or of the order of nodes can change it. `VERSION` names the arithmetic,
which will not change silently.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from vedette.core.errors import DefinitionError, TransientError

VERSION: Final = 1
MAX_NODES: Final = 1_024
"""A look-up costs a few hundred nanoseconds a node."""
BOUND: Final = 1.25
"""No node holds more than this times the mean of what all hold, where load is counted."""
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Node:
    """Where requests can go."""

    name: str
    """Unique; its score depends on it and on nothing else."""
    zone: str = ""
    """Region or zone; requests from there stay there while one of its nodes is up."""


class Router:
    """Chooses among nodes. Safe to share between threads.

    Args:
        nodes: Nodes, or their names.
        bound: `acquire` gives no node more than `ceil(bound * mean)` requests at a time; at least 1.

    Raises:
        DefinitionError: `routing.node.repeated`, `routing.nodes.too_many`, `routing.bound.invalid`.

    Example:
        >>> router = Router(["eu-1", "eu-2", "us-1"])
        >>> router.route("charge:ch_1")
        'eu-2'
        >>> router.set_down("eu-2")
        >>> router.route("charge:ch_1")
        'eu-1'
    """

    def __init__(self, nodes: Iterable[Node | str] = (), *, bound: float = BOUND) -> None:
        if not bound >= 1:
            raise DefinitionError("routing.bound.invalid", "the bound is at least 1")
        self._bound = bound
        self._nodes: dict[str, Node] = {}
        self._seeds: tuple[tuple[int, str], ...] = ()
        self._down: frozenset[str] = frozenset()
        self._loads: Counter[str] = Counter()
        self._lock = threading.Lock()
        for node in nodes:
            self.add(node)

    # Members

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of them, by name."""
        return tuple(self._nodes[name] for name in sorted(self._nodes))

    def add(self, node: Node | str) -> None:
        """Adds a node, which takes its share of keys from every other.

        Raises:
            DefinitionError: `routing.node.repeated`, `routing.nodes.too_many`.
        """
        fresh = Node(node) if isinstance(node, str) else node
        with self._lock:
            if fresh.name in self._nodes or not fresh.name:
                raise DefinitionError("routing.node.repeated", "a node needs a name of its own", at=fresh.name)
            if len(self._nodes) >= MAX_NODES:
                raise DefinitionError("routing.nodes.too_many", f"at most {MAX_NODES} nodes")
            self._nodes[fresh.name] = fresh
            self._reseed()

    def remove(self, name: str) -> None:
        """Removes a node for good; its keys go to every other.

        Raises:
            DefinitionError: `routing.node.unknown`.
        """
        with self._lock:
            self._known(name)
            del self._nodes[name]
            self._loads.pop(name, None)
            self._down -= {name}
            self._reseed()

    def set_down(self, name: str) -> None:
        """Sends nothing to a node until `set_up`; its keys come back to it then.

        Raises:
            DefinitionError: `routing.node.unknown`.
        """
        with self._lock:
            self._known(name)
            self._down |= {name}

    def set_up(self, name: str) -> None:
        """Lets a node serve again.

        Raises:
            DefinitionError: `routing.node.unknown`.
        """
        with self._lock:
            self._known(name)
            self._down -= {name}

    def is_up(self, name: str) -> bool:
        """Whether a node is one of ours and serves."""
        return name in self._nodes and name not in self._down

    # Choice

    def route(self, key: str, *, zone: str = "") -> str:
        """Name of the node that serves a key now.

        Args:
            key: What must always meet the same node: a merchant, an idempotency key.
            zone: Where the request is. A node there is preferred while one is up.

        Raises:
            TransientError: `routing.nodes.none` when none is up.
        """
        if not zone and not self._down:
            own = _hash(key)
            best, score = "", -1
            for seed, name in self._seeds:
                product = own * seed & _MASK
                if product > score:
                    best, score = name, product
            if best:
                return best
        return next(iter(self.ranked(key, zone=zone)), "") or _nobody()

    def ranked(self, key: str, *, zone: str = "") -> list[str]:
        """Every node that is up in the order in which it would serve the key, those of the zone first."""
        own = _hash(key)
        scored = [(self._nodes[name].zone != zone, -(own * seed & _MASK), name) for seed, name in self._seeds]
        return [name for _, _, name in sorted(scored) if name not in self._down]

    @contextmanager
    def acquire(self, key: str, *, zone: str = "") -> Iterator[str]:
        """Counts a request against the node that serves it, the next one in the key's order when that is full.

        No node holds more than `ceil(bound * mean)`, the mean over the nodes that are up and with this request counted.

        Raises:
            TransientError: `routing.nodes.none`.
        """
        name = self._take(key, zone)
        try:
            yield name
        finally:
            with self._lock:
                if self._loads[name] > 1:
                    self._loads[name] -= 1
                else:
                    del self._loads[name]

    def load(self, name: str) -> int:
        """Requests that a node holds now."""
        return self._loads[name]

    def _take(self, key: str, zone: str) -> str:
        order = self.ranked(key, zone=zone)
        with self._lock:
            up = [name for name in order if name in self._nodes]
            if not up:
                _nobody()
            cap = math.ceil(self._bound * (sum(self._loads[name] for name in up) + 1) / len(up))
            name = next(name for name in up if self._loads[name] < cap)
            self._loads[name] += 1
            return name

    def _known(self, name: str) -> None:
        if name not in self._nodes:
            raise DefinitionError("routing.node.unknown", "no such node", at=name)

    def _reseed(self) -> None:
        # Odd, so that the product loses nothing of the key's hash.
        self._seeds = tuple((_hash(name) | 1, name) for name in sorted(self._nodes))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _nobody() -> str:
    raise TransientError("routing.nodes.none", "no node is up", retry_after=1.0)
