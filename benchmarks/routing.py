"""Four consistent hashes in one table: look-ups a second, keys that move, how even the load is.

    python benchmarks/routing.py [--nodes 10] [--keys 200000]

`moved` is the share of all keys that another node serves afterwards, `needless` the share that moved though neither
its old nor its new node was the one that came or went; the least possible is 1/(n+1) for a node that comes, 1/n for
one that goes, and 0. Jump hashing knows buckets by number: only the last one can go, so the loss of another is
measured as what it does then, renumbering. All use the same 64-bit hash of the key.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence

from vedette.move.routing import Router

Choose = Callable[[str], str]
MASK = (1 << 64) - 1


def to_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def rendezvous(nodes: Sequence[str]) -> Choose:
    return Router(nodes).route


def jump(nodes: Sequence[str]) -> Choose:
    """Lamping and Veach, 2014."""
    names, count = list(nodes), len(nodes)

    def choose(key: str) -> str:
        state, bucket, step = to_hash(key), -1, 0
        while step < count:
            bucket = step
            state = (state * 2862933555777941757 + 1) & MASK
            step = int((bucket + 1) * ((1 << 31) / ((state >> 33) + 1)))
        return names[bucket]

    return choose


def maglev(nodes: Sequence[str], size: int = 65_537) -> Choose:
    """Eisenbud and others, 2016."""
    starts = [(to_hash(f"offset:{name}") % size, to_hash(f"skip:{name}") % (size - 1) + 1) for name in nodes]
    table, taken, filled = [""] * size, [0] * len(nodes), 0
    while filled < size:
        for index, (offset, skip) in enumerate(starts):
            place = (offset + taken[index] * skip) % size
            while table[place]:
                taken[index] += 1
                place = (offset + taken[index] * skip) % size
            table[place] = nodes[index]
            taken[index] += 1
            filled += 1
            if filled == size:
                break
    return lambda key: table[to_hash(key) % size]


def ring(nodes: Sequence[str], points: int = 160) -> Choose:
    """Karger and others, 1997, with virtual nodes as ketama has them."""
    placed = sorted((to_hash(f"{name}:{n}"), name) for name in nodes for n in range(points))
    places, names = [place for place, _ in placed], [name for _, name in placed]
    return lambda key: names[bisect.bisect(places, to_hash(key)) % len(names)]


def share(before: list[str], after: list[str], changed: str) -> tuple[float, float]:
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    needless = sum(changed not in pair for pair in moved)
    return 100 * len(moved) / len(before), 100 * needless / len(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--keys", type=int, default=200_000)
    args = parser.parse_args()
    nodes = [f"n{n}" for n in range(args.nodes)]
    keys = [f"charge:ch_{n}" for n in range(args.keys)]
    gone = nodes[args.nodes // 2]
    print(f"{args.nodes} nodes, {args.keys:,} keys; a CPU second, best of three")
    head = ("", "look-ups/s", "max/mean", "added: moved", "needless", "gone: moved", "needless", "built in ms")
    print("{:<12}{:>12}{:>10}{:>14}{:>10}{:>13}{:>10}{:>13}".format(*head))
    for make in (rendezvous, jump, maglev, ring):
        begun = time.process_time()
        choose = make(nodes)
        built = (time.process_time() - begun) * 1e3
        rate, before = 0.0, []
        for _ in range(3):
            start = time.process_time()
            before = [choose(key) for key in keys]
            rate = max(rate, len(keys) / (time.process_time() - start))
        even = max(Counter(before).values()) / (len(keys) / len(nodes))
        more, more_needless = share(before, list(map(make([*nodes, "new"]), keys)), "new")
        rest = [name for name in nodes if name != gone]
        less, less_needless = share(before, list(map(make(rest), keys)), gone)
        print(
            f"{make.__name__:<12}{rate:>12,.0f}{even:>10.3f}{more:>13.2f}%{more_needless:>9.2f}%{less:>12.2f}%"
            f"{less_needless:>9.2f}%{built:>13.1f}"
        )
    print(f"least possible{'':>20}{100 / (len(nodes) + 1):>13.2f}%{0:>9.2f}%{100 / len(nodes):>12.2f}%{0:>9.2f}%")


if __name__ == "__main__":
    main()
