"""Follows collections of other TAXII 2.1 servers: page by page, each in one transaction with how far it came.

A process that is killed anywhere goes on behind the last page it took; a page that comes again changes nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from vedette.core.clock import MICROS, Clock
from vedette.core.egress import Egress, Response
from vedette.core.errors import DataError, DeniedError, PermanentError, TransientError, VedetteError
from vedette.sense.intel.collections import Collection
from vedette.sense.intel.library import Library
from vedette.sense.intel.stix import Default, parse_bundle
from vedette.sense.intel.writing import Put

MEDIA = "application/taxii+json;version=2.1"
TIMEOUT_S = 60.0
MAX_ANSWER = 64 * 1024 * 1024
MAX_PAGES = 10_000
"""Most pages of one turn."""
PAGE = 1_000
_OK, _BAD, _TOO_MANY, _FAULT = 200, 400, 429, 500
_DENIED = {401, 403}


class _More(msgspec.Struct, frozen=True):
    more: bool = False
    next: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a look at another server brought."""

    collection: str
    pages: int
    put: Put


class Polls:
    """Looks at the collections that are followed.

    Args:
        library: Where they are kept.
        egress: The way out.
        reveal: Name of a secret -> it: `user:password`, or a token for Bearer.
        clock: Says which are due.
    """

    def __init__(self, library: Library, egress: Egress, reveal: Callable[[str], str], clock: Clock) -> None:
        self._library = library
        self._egress = egress
        self._reveal = reveal
        self._clock = clock

    def poll_due(self) -> int:
        """Looks at every collection that is due; a problem is noted with it. Gives how many objects came."""
        now, count = self._clock.now(), 0
        for tenant, own in self._library.followed():
            if own.every and now - own.polled >= own.every * MICROS:
                try:
                    put = self.poll(tenant, own).put
                    count += put.added + put.changed
                except VedetteError as error:
                    self._library.put(tenant, own.name, (), told={"polled": now, "problem": str(error)[:500]})
        return count

    def poll(self, tenant: str, own: Collection) -> Turn:
        """Takes everything that is new in the collection that one follows.

        Raises:
            DataError, PermanentError, DeniedError, TransientError: `taxii.answer.*`, and what `Egress.request` raises.
                What came before is kept.
        """
        total = Put()
        for number in range(1, MAX_PAGES + 1):
            answer = self._ask(own)
            page = _decoded(answer.body)
            objects, refused = parse_bundle(answer.body, Default(own.tlp, own.confidence, self._clock.now(), own.name))
            last = answer.headers.get("x-taxii-date-added-last", "")
            # A page may end among objects of one time, so behind one stands `next`, and the time only behind the last.
            ended = {"added_after": last or own.added_after, "next": ""}
            told: dict[str, Any] = {"next": page.next} if page.more and page.next else ended
            told |= {"problem": "", "polled": self._clock.now()}
            total = _sum(total, self._library.put(tenant, own.name, objects, refused, told=told))
            before, own = own, msgspec.structs.replace(own, **told)
            if not page.more:
                return Turn(own.name, number, total)
            if (own.next, own.added_after) == (before.next, before.added_after):
                break
        raise DataError("taxii.answer.endless", "the server tells of more and does not go on", at=own.name)

    def _ask(self, own: Collection) -> Response:
        asked = {"limit": str(PAGE), "added_after": own.added_after, "next": own.next}
        query = urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)
        headers = {"accept": MEDIA, **self._login(own.secret)}
        url = f"{own.url.rstrip('/')}/objects/?{query}"
        answer = self._egress.request("GET", url, headers=headers, timeout=TIMEOUT_S, max_bytes=MAX_ANSWER)
        if answer.status == _OK:
            return answer
        if answer.status == _BAD and own.next:
            # A mark that the server forgot: from the last time on, where what comes again changes nothing.
            return self._ask(msgspec.structs.replace(own, next=""))
        where = urlsplit(own.url).netloc
        if answer.status in _DENIED:
            raise DeniedError("taxii.answer.denied", f"the server answered {answer.status}", at=where)
        if answer.status == _TOO_MANY or answer.status >= _FAULT:
            raise TransientError("taxii.answer.failed", f"the server answered {answer.status}", at=where)
        raise PermanentError("taxii.answer.refused", f"the server answered {answer.status}", at=where)

    def _login(self, secret: str) -> dict[str, str]:
        if not secret:
            return {}
        own = self._reveal(secret)
        if ":" not in own:
            return {"authorization": f"Bearer {own}"}
        return {"authorization": f"Basic {base64.b64encode(own.encode()).decode()}"}


def _decoded(body: bytes) -> _More:
    try:
        return msgspec.json.decode(body, type=_More)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError("taxii.answer.invalid", "the answer is no TAXII envelope") from error


def _sum(one: Put, other: Put) -> Put:
    names = ("added", "changed", "same", "held", "refused")
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return Put(**sums, first=one.first or other.first, last=other.last or one.last)
