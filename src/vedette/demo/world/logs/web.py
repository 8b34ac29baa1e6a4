"""Web servers: who looks at which page, in the combined log format."""

from __future__ import annotations

import numpy as np

from vedette.demo.world.charges import NOBODY, Charges
from vedette.demo.world.logs.book import Book, clock
from vedette.demo.world.logs.columns import Columns
from vedette.demo.world.mint import generator
from vedette.demo.world.places import MINUTE
from vedette.demo.world.stage import Stage

VIEWS = 2.2
"""Pages that are looked at for each payment, besides the payment itself."""
PAGES = ("/", "/catalogue", "/basket", "/checkout", "/account", "/help", "/v1/prices", "/static/app.js", "/login")
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Browser/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Browser/17.5",
    "Mozilla/5.0 (Linux; Android 14) Browser/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) Browser/17.4",
)


class WebLog:
    """Views before and after payments, from the payer's address."""

    def __init__(self, stage: Stage, payments: Charges) -> None:
        rng = generator(stage.seed, "web")
        online = payments.take(payments.address != NOBODY)
        views = np.repeat(np.arange(len(online)), rng.poisson(VIEWS, len(online)))
        self._texts = stage.texts
        self._columns = Columns(
            np.maximum(0, online.time[views] - rng.exponential(4 * MINUTE, len(views)).astype(np.int64)),
            online.address[views],
            online.customer[views] % len(BROWSERS),
            rng.choice(len(PAGES), len(views), p=[0.2, 0.22, 0.12, 0.13, 0.08, 0.02, 0.08, 0.1, 0.05]),
            rng.choice([200, 304, 404, 500], len(views), p=[0.9, 0.07, 0.025, 0.005]),
            (rng.pareto(1.5, len(views)) * 2_000 + 300).astype(np.int64),
        )

    def write(self, book: Book, begin: int, end: int) -> None:
        """Puts the lines of [begin, end) into the book."""
        date, addresses = book.clf_date, self._texts.addresses
        book.put(
            "web_access",
            [
                (
                    time,
                    f'{addresses[address]} - - [{date}:{clock(time)} +0000] "GET {PAGES[page]} HTTP/1.1" '
                    f'{status} {size} "-" "{BROWSERS[browser]}"'.encode(),
                )
                for time, address, browser, page, status, size in self._columns.rows(begin, end)
            ],
        )
