"""The executor port in memory: fake clock, every operation recorded, replay and cut at any operation."""

from __future__ import annotations

import msgspec

from vedette.core.execute import ONCE, Outcome, attempt


class CutError(BaseException):
    """The process is gone."""


class MemorySteps:
    """`Steps` that records like the real one. Reuse `recorded` for a resume; `cut` kills before that operation."""

    def __init__(self, clock, messages=(), *, recorded=None, cut=None, on_wait=lambda: None):
        self.run_id = "run_test"
        self.clock = clock
        self.messages = list(messages)
        self.recorded = [] if recorded is None else recorded
        self.cut = cut
        self.on_wait = on_wait
        self.place = 0
        self.slept = 0.0
        self.interpreters = {}
        self.inside = {}

    def _once(self, name, make):
        if self.place < len(self.recorded):
            held, value = self.recorded[self.place]
            assert held == name, f"replay asks for {name}, recorded is {held}"
        else:
            if self.cut is not None and self.place >= self.cut:
                raise CutError
            value = msgspec.json.decode(msgspec.json.encode(make()))
            self.recorded.append((name, value))
        self.place += 1
        return value

    def step(self, name, body, *, retry=ONCE, timeout_s=0.0):
        number = 1
        while True:
            outcome = msgspec.convert(self._once(name, lambda: attempt(body)), Outcome)
            if outcome.ok or not outcome.retryable or number >= retry.attempts:
                return msgspec.structs.replace(outcome, attempts=number)
            self.sleep(retry.delay(number, outcome.retry_after))
            number += 1

    def wait(self, topic, *, timeout_s):
        def receive():
            self.on_wait()
            if self.messages:
                return self.messages.pop(0)
            self.clock.advance(timeout_s)
            return None

        return self._once(f"wait:{topic}", receive)

    def sleep(self, seconds):
        def rest():
            self.clock.advance(seconds)
            self.slept += seconds
            return seconds

        self._once("sleep", rest)

    def parallel(self, branches):
        """Each branch to its end, one after the other; what they recorded is in `inside`."""

        def all_of_them():
            found = []
            for branch in branches:
                steps = self.inside.setdefault(
                    branch.name, MemorySteps(self.clock, self.messages, on_wait=self.on_wait)
                )
                steps.run_id, steps.interpreters, steps.place = f"{self.run_id}/{branch.name}", self.interpreters, 0
                found.append(self.interpreters[branch.kind](steps, branch.definition, branch.inputs))
                self.slept += steps.slept
            return found

        return self._once("parallel", all_of_them)

    @property
    def names(self):
        return [name for name, _ in self.recorded]
