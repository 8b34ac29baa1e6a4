"""The greatest of the last k of 10 million scores: CPU seconds by length and window, beside numpy's windows.

    python benchmarks/sliding.py [--values N]

Linear means: a tenth of the values takes a tenth of the time, and the window's length does not matter. numpy's
`sliding_window_view` looks at each window whole, so it is run on a hundredth of the values and told for all of them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from vedette.sense.features.sliding import sliding_max, sliding_max_array

WINDOWS = (2, 60, 1_000, 100_000)


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of the better of two runs."""
    times = []
    for _ in range(2):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def last(values: np.ndarray, k: int) -> float:
    """The last answer of the stream."""
    return deque(sliding_max(iter(values.tolist()), k), maxlen=1)[0]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=10_000_000)
    count = parser.parse_args().values
    scores = np.random.default_rng(1).random(count)
    scores[::97] = np.nan
    rising = np.sort(np.random.default_rng(2).random(count))
    sliding_max_array(scores[:100], 3)
    print(f"{'k':>8} {'array':>8} {'a tenth':>8} {'falling':>8} {'rising':>8} {'stream':>8} {'numpy':>10}   CPU s")
    for k in WINDOWS:
        few = np.nan_to_num(scores[: max(count // 100, 2 * k)])
        windows = np.lib.stride_tricks.sliding_window_view(few, k)
        peer = spent(lambda w=windows: w.max(axis=1)) * count / len(few) if k <= 1_000 else float("nan")
        row = [
            spent(lambda k=k: sliding_max_array(scores, k)),
            spent(lambda k=k: sliding_max_array(scores[: count // 10], k)),
            spent(lambda k=k: sliding_max_array(rising[::-1], k)),
            spent(lambda k=k: sliding_max_array(rising, k)),
            spent(lambda k=k: last(scores[: count // 10], k)) * 10,
        ]
        print(f"{k:8,} " + " ".join(f"{each:8.3f}" for each in row) + f" {peer:10.2f}")
    print(f"{count:,} values; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
