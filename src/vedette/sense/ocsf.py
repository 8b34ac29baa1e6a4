"""The OCSF view of an event: attributes are looked up by the source file's map when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vedette.core.event import Event
from vedette.sense.sources import Source

VERSION = "1.5.0"
"""The OCSF version whose class and attribute names the source files use."""


class View:
    """A lazy, read-only look at an event by OCSF attribute paths such as `src_endpoint.ip`.

    Nothing is copied. Besides the mapped attributes it has those of the envelope: `class_uid`, `category_uid`,
    `type_uid` (when `activity_id` is mapped), `time` (milliseconds, as OCSF counts), `metadata.uid`.
    """

    __slots__ = ("_event", "_source")

    def __init__(self, event: Event, source: Source) -> None:
        self._event = event
        self._source = source

    def get(self, path: str, default: Any = None) -> Any:
        """The value of an attribute, or `default` when the map has none or the record lacks the field."""
        reader = self._source.ocsf.get(path)
        value = reader(self._event.data) if reader else self._envelope(path)
        return default if value is None else value

    def __iter__(self) -> Iterator[str]:
        """The mapped attribute paths, whether or not this record has them."""
        return iter(self._source.ocsf)

    def to_dict(self) -> dict[str, Any]:
        """The present attributes as one nested object, envelope included."""
        nested: dict[str, Any] = {}
        for path in ("class_uid", "category_uid", "type_uid", "time", "metadata.uid", *self._source.ocsf):
            value = self.get(path)
            if value is not None:
                _put(nested, path.split("."), value)
        return nested

    def _envelope(self, path: str) -> Any:
        event = self._event
        match path:
            case "class_uid":
                return event.class_uid
            case "category_uid":
                return event.class_uid // 1_000
            case "type_uid":
                activity = self.get("activity_id")
                return event.class_uid * 100 + activity if isinstance(activity, int) else None
            case "time":
                return event.event_time // 1_000
            case "metadata.uid":
                return event.id
        return None


def view(event: Event, source: Source) -> View:
    """The OCSF view of an event that `source` made.

    Example:
        `view(event, source).get("src_endpoint.ip")` is the client address, whatever the source calls it.
    """
    return View(event, source)


def _put(nested: dict[str, Any], steps: list[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = nested.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        nested = inner
    nested[steps[-1]] = value
