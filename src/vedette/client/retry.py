"""When to ask again, and how long to wait before: exponential, full jitter, never past the deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed. Everything else is an answer, or wrong for good."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How requests are repeated. All of them carry one key, so that the service does the work once.

    Source: "Exponential backoff and jitter", full jitter: the wait is uniform between 0 and the backoff.
    """

    attempts: int = 4
    """Most requests, the first included."""
    base_s: float = 0.02
    """Longest wait before the second request; it doubles with each further one."""
    cap_s: float = 0.25
    """Longest wait of all."""

    def wait(self, attempt: int, *, told: float, left: float, uniform: Callable[[float, float], float]) -> float | None:
        """Seconds to wait after a failed request; None when no other fits.

        Args:
            attempt: How many requests were made.
            told: What the service said in `Retry-After`, seconds; 0 when it said nothing.
            left: Seconds until the deadline.
            uniform: Draws a number between two others.
        """
        if attempt >= self.attempts:
            return None
        wait = max(told, uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** (attempt - 1))))
        return wait if wait < left else None
