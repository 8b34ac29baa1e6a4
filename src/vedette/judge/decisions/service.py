"""The service: what HTTP routes and pipelines await. It keeps the deadline whatever stalls.

One writer thread takes what waits as a group, so concurrent requests share two commits and one question to the model;
a thread that has read several requests may bring them as a group itself (`work`).
On a busy service a group begins at the earliest `PACE_S` after the one before, so that there is something to share; on
a quiet one nobody waits for anybody. A request whose answer does not
come within its budget is answered by rules over the event alone and the merchant's policy, marked with the part that
stalled; what its caller got is what the log holds once the part goes on again.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as attribute

from vedette.core.decision import Decision
from vedette.core.errors import TransientError, VedetteError
from vedette.core.event import Event
from vedette.core.label import Label
from vedette.judge.decisions.intake import check_event
from vedette.judge.decisions.recorder import Answer, Recorder, Wanted

DEADLINE_S = 0.050
"""Within this the caller has an answer, whatever happens."""
SERVICE_SHARE = 0.7
"""Part of the deadline after which the service stops waiting; the rest is for the answer by policy and its way out."""
MAX_WAITING = 4_096
"""Requests that may wait for the writer; further ones are refused at once and told to come again."""
MAX_GROUP = 16
"""Most requests that share a commit: bounds how long the first of them waits for the last. Sixteen share the fixed cost
of a group to within a tenth of what sixty-four would, and after a pause the first answers leave three times sooner."""
PACE_S = 0.004
"""From the start of one group to the start of the next, at least: what a group costs beside its requests is paid so
seldom that a thousand requests a second leave half a processor free. Commits by themselves take half a millisecond."""
SLICE = 32
"""Events of a lot that are decided at a time: bounds how long a request with a deadline waits for them."""


Told = Callable[[Answer], None]
"""Hears the answer to one request, in the thread of the loop that asked where there is one."""


@dataclass(slots=True, eq=False)
class Pending:
    """One request on its way. Whoever sets `answer` first, under the lock, has given the answer."""

    event: Event
    told: Told
    loop: asyncio.AbstractEventLoop | None = None
    """Whose thread hears the answer; None: the thread that gives it."""
    due: float = 0.0
    """When it is to be given up, in seconds of the monotonic clock; with a loop, `late` does that."""
    late: asyncio.TimerHandle | None = None
    lock: threading.Lock = attribute(default_factory=threading.Lock)
    answer: Answer | None = None

    def claim(self, answer: Answer) -> bool:
        """True when nobody has answered before."""
        with self.lock:
            if self.answer is not None:
                return False
            self.answer = answer
            return True

    def tell(self) -> None:
        """Tells the caller, once."""
        if self.late is not None:
            self.late.cancel()
        if self.answer is not None:
            told, self.told = self.told, _nobody
            told(self.answer)


def _nobody(_answer: Answer) -> None:
    """Who was told already."""


@dataclass(slots=True, eq=False)
class _Lot:
    """Events that are decided between other requests, as fast as that goes."""

    events: deque[Event]
    answers: list[Answer] = attribute(default_factory=list)
    done: Future[list[Answer]] = attribute(default_factory=Future)


class DecisionService:
    """Decisions for many callers, one writer.

    Args:
        recorder: Used by this service's thread alone from now on.
        deadline_s: See `DEADLINE_S`.
    """

    def __init__(self, recorder: Recorder, *, deadline_s: float = DEADLINE_S) -> None:
        self._recorder = recorder
        self.budget = deadline_s * SERVICE_SHARE
        """Seconds after which a request is given up."""
        self._lots: deque[_Lot] = deque()
        self._waiting: queue.SimpleQueue[Pending | Label | _Lot | None] = queue.SimpleQueue()
        self._given: list[Decision] = []
        self.fallbacks: dict[str, int] = {}
        """Answers by policy so far, by code."""
        self.refused = 0
        """Requests that were told to come again, because too much waited."""
        self.lost_labels: dict[str, int] = {}
        """Labels that could not be recorded, by error code: their sender must send them again."""
        self._paced = 0.0
        self._turn = threading.Lock()
        """Held by the thread that uses the recorder."""
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="decisions", daemon=True)
        settle()
        self._thread.start()

    async def decide(self, event: Event, *, checked: bool = False) -> Decision:
        """The decision on an event, within the deadline.

        Args:
            event: The event.
            checked: True when `check_event` has passed it already.

        Raises:
            DataError: What `check_event` refuses.
            ConflictError: `decision.event.conflict`.
            TransientError: `decision.queue.full` when so much waits that an answer by policy would not be recorded.
        """
        if not checked:
            check_event(event, now=self._recorder.clock.now())
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        # A caller who was cancelled waits no more.
        self.submit(event, lambda answer: None if future.done() else future.set_result(answer))
        answer = await future
        if isinstance(answer, VedetteError):
            raise answer
        return answer

    def submit(self, event: Event, told: Told) -> None:
        """As `decide`, for an event that `check_event` has passed, without waiting; called in a loop's thread.

        Args:
            event: The event.
            told: Hears the answer in the same thread, within the deadline.

        Raises:
            TransientError: `decision.queue.full`.
        """
        if self._waiting.qsize() >= MAX_WAITING:
            self.refused += 1
            raise TransientError("decision.queue.full", "too much waits", retry_after=1.0)
        loop = asyncio.get_running_loop()
        pending = Pending(event, told, loop)
        pending.late = loop.call_later(self.budget, self.give_up, pending)
        self._waiting.put(pending)

    def decide_many(self, events: Sequence[Event]) -> list[Answer]:
        """The decisions on events in order, without a deadline; what one is refused with stands in its place.

        For callers that have a thread to wait in. Requests with a deadline are decided in between: at most `SLICE` of
        these come before one of those.

        Args:
            events: Already checked as `check_event` does.

        Raises:
            TransientError: `log.append.*`; some of them may be decided, and will be answered so when asked again.
        """
        lot = _Lot(deque(events))
        self._waiting.put(lot)
        return lot.done.result()

    async def learn(self, label: Label) -> None:
        """Hands over a label; it is recorded in the order of the events around it.

        Raises:
            TransientError: `decision.queue.full`.
        """
        if self._waiting.qsize() >= MAX_WAITING:
            raise TransientError("decision.queue.full", "too much waits", retry_after=1.0)
        self._waiting.put(label)

    def work(self, group: Sequence[Pending]) -> None:
        """Decides on requests in the caller's thread, and tells each there.

        Args:
            group: At most `MAX_GROUP`, without a loop; `give_up` those that are due meanwhile, in another thread.
        """
        try:
            with self._turn:
                self._decide(group)
        except BaseException:
            self._broken = True
            raise

    def give_up(self, pending: Pending) -> None:
        """Answers by policy, unless there is an answer by now."""
        if pending.answer is not None:
            return
        mine = self._by_policy(pending.event, self._recorder.decider.stage)
        if pending.claim(mine):
            pending.tell()
        else:
            self.fallbacks[mine.fallback or ""] -= 1

    @property
    def alive(self) -> bool:
        """False when a writer has ended of a bug: the process should be replaced."""
        return self._thread.is_alive() and not self._broken

    async def close(self) -> None:
        """Answers what waits, ends the thread and closes the recorder."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._recorder.close()

    def _by_policy(self, event: Event, part: str) -> Decision:
        decision = self._recorder.decider.fall_back(event, part)
        code = decision.fallback or ""
        self.fallbacks[code] = self.fallbacks.get(code, 0) + 1
        return decision

    # The writer thread

    def _work(self) -> None:
        for group in self._groups():
            with self._turn:
                self._decide(group)
                self._go_on()
        while self._lots:
            with self._turn:
                self._go_on()

    def _decide(self, group: Sequence[Pending]) -> None:
        try:
            self._answer(group)
        except VedetteError as error:
            self._refused(group, error)

    def _go_on(self) -> None:
        """Decides on some more of the first lot."""
        if not self._lots:
            return
        lot = self._lots[0]
        some = [lot.events.popleft() for _ in range(min(SLICE, len(lot.events)))]
        try:
            lot.answers += self._recorder.decide_many([Wanted(event, checked=True) for event in some])
        except VedetteError as error:
            self._lots.popleft()
            lot.done.set_exception(error)
            return
        if not lot.events:
            self._lots.popleft()
            lot.done.set_result(lot.answers)

    def _refused(self, group: Sequence[Pending], error: VedetteError) -> None:
        """The log took nothing, or took the events and not the decisions: the next group puts that right."""
        for pending in group:
            answer: Answer = self._by_policy(pending.event, "log") if error.code.startswith("log.") else error
            if pending.claim(answer):
                _wake([pending])
            if isinstance(pending.answer, Decision):
                self._given.append(pending.answer)

    def _groups(self) -> Iterator[list[Pending]]:
        """What waits, in order, at most `MAX_GROUP` at a time; labels in between are learned at their place."""
        group: list[Pending] = []
        while True:
            try:
                item = self._waiting.get(block=not (group or self._lots))
            except queue.Empty:
                if group and self._early():
                    continue
                yield group
                group = []
                continue
            if isinstance(item, _Lot):
                self._lots.append(item)
                continue
            if isinstance(item, Pending):
                group.append(item)
            if group and (not isinstance(item, Pending) or len(group) >= MAX_GROUP):
                yield group
                group = []
            if isinstance(item, Label):
                self._learn(item)
            if item is None:
                return

    def _early(self) -> bool:
        """Lets more requests come, when the last group began only just now; whether there was time for that."""
        left = self._paced - time.monotonic()
        if left > 0 and not self._lots:
            time.sleep(left)
        else:
            left = 0.0
            self._paced = time.monotonic() + PACE_S
        return left > 0

    def _learn(self, label: Label) -> None:
        try:
            with self._turn:
                self._recorder.learn([label])
        except VedetteError as error:
            self.lost_labels[error.code] = self.lost_labels.get(error.code, 0) + 1

    def _answer(self, group: Sequence[Pending]) -> None:
        if not group:
            return
        wanted = [
            Wanted(one.event, one.answer if isinstance(one.answer, Decision) else None, checked=True) for one in group
        ]
        told = []
        for pending, answer in zip(group, self._recorder.decide_many(wanted), strict=True):
            if pending.claim(answer):
                told.append(pending)
                if isinstance(answer, Decision) and answer.fallback:
                    self.fallbacks[answer.fallback] = self.fallbacks.get(answer.fallback, 0) + 1
            else:
                self._late(pending, answer)
        _wake(told)
        self._recorder.amend(self._given)
        self._given = []

    def _late(self, pending: Pending, recorded: Answer) -> None:
        """The caller was answered by policy while the decision was being recorded: the log must say so."""
        mine = pending.answer
        if isinstance(mine, Decision) and isinstance(recorded, Decision) and recorded.fallback != mine.fallback:
            self._given.append(mine)


def _wake(answered: Sequence[Pending]) -> None:
    """Tells callers that they have an answer: each loop is woken once."""
    for loop in {pending.loop for pending in answered}:
        if loop is None:
            _tell_all([pending for pending in answered if pending.loop is None])
            continue
        # A caller that was answered by policy may have left, and closed its loop behind it: nobody waits there.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_tell_all, [pending for pending in answered if pending.loop is loop])


def _tell_all(answered: Sequence[Pending]) -> None:
    for pending in answered:
        pending.tell()


def settle() -> None:
    """Takes what is loaded out of the garbage collector's sight, and makes its runs rarer.

    Rules, model and feature state live as long as the process; without this each full collection walks them and a
    decision waits milliseconds for it. Decisions make no cycles, so what comes after is freed by reference counts; the
    collector looks at 10,000 new objects at a time, which takes a millisecond or two.
    """
    gc.collect()
    gc.freeze()
    # What stays frozen is not freed when the interpreter ends, and some libraries then complain of leaks.
    atexit.register(gc.unfreeze)
    gc.set_threshold(10_000, 50, 100)
