"""Labelled history in which a few terminals are bad for some days: small, quick to learn from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

FIRST = 17_622
"""2018-04-01."""


def fast_history(seed: int = 3, days: int = 45, a_day: int = 250) -> pa.Table:
    """Payments of 200 customers at 40 terminals; those at bad terminals, and large ones, are mostly fraud."""
    rng = np.random.default_rng(seed)
    count = days * a_day
    seconds = np.sort(rng.integers(0, days * 86_400, count))
    terminal = rng.integers(0, 40, count)
    bad_from = rng.integers(0, days, 40)
    day = seconds // 86_400
    bad = (day >= bad_from[terminal]) & (day < bad_from[terminal] + 20) & (terminal < 6)
    cents = rng.integers(100, 20_000, count)
    fraud = (bad & (rng.random(count) < 0.9)) | (cents > 19_800)
    return pa.table(
        {
            "TRANSACTION_ID": np.arange(count),
            "TX_DATETIME": pa.array((FIRST * 86_400 + seconds) * 1_000_000, pa.timestamp("us")),
            "CUSTOMER_ID": rng.integers(0, 200, count),
            "TERMINAL_ID": terminal,
            "TX_AMOUNT": cents / 100,
            "TX_FRAUD": fraud.astype(np.int8),
        }
    )
