"""Observables of an event: which of a source's fields hold addresses, names, URLs, e-mail addresses and hashes.

The source file says so: by the OCSF attribute that a field fills (`src_endpoint.ip`), by the entity that it names
(`domain`), or under `observables` where neither does. Nothing is guessed from a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vedette.sense.intel.values import Kind
from vedette.sense.paths import Reader, compile_path
from vedette.sense.sources import Source

ENTITIES = {"ip": Kind.IPV4, "domain": Kind.DOMAIN, "email": Kind.EMAIL, "url": Kind.URL, "hash": Kind.FILE}
"""Type of an entity -> what its values are. `IPV4` stands for both kinds of addresses."""
_ENDINGS = (
    (".ip", Kind.IPV4),
    ("url.url_string", Kind.URL),
    ("url.hostname", Kind.DOMAIN),
    ("query.hostname", Kind.DOMAIN),
    ("email_addr", Kind.EMAIL),
    ("hashes.value", Kind.FILE),
)


class Observable(NamedTuple):
    """A value of an event that indicators may name."""

    field: str
    """The source's own name of it."""
    kind: Kind
    """`IPV4` for any address."""
    text: str
    """As the event writes it."""


class Observables:
    """Where a source's observables are.

    Args:
        source: The source.
    """

    def __init__(self, source: Source) -> None:
        self.fields: tuple[tuple[str, Kind, Reader], ...] = tuple(
            (path, kind, compile_path(path)) for path, kind in _fields(source).items()
        )

    def of(self, data: Mapping[str, Any]) -> Iterator[Observable]:
        """The observables of a record; of a list each item, of a text of several hashes each."""
        for field, kind, read in self.fields:
            value = read(data)  # type: ignore[arg-type]
            if value is not None:
                for text in texts(value, kind):
                    yield Observable(field, kind, text)


def texts(value: Any, kind: Kind) -> Iterable[str]:
    """The single texts of a field's value."""
    if isinstance(value, str):
        if kind is Kind.FILE and ("=" in value or "," in value):  # Sysmon: `MD5=...,SHA256=...`
            return [part.rpartition("=")[2].strip() for part in value.split(",")]
        return (value,)
    if isinstance(value, Sequence):
        return [each for each in value if isinstance(each, str)]
    return ()


def observed(sources: Mapping[str, Source]) -> dict[str, Observables]:
    """Name -> its observables, of the sources that have any."""
    found = {name: Observables(source) for name, source in sources.items()}
    return {name: one for name, one in found.items() if one.fields}


def _fields(source: Source) -> dict[str, Kind]:
    """Path -> kind."""
    found: dict[str, Kind] = {}
    definition = source.definition
    for name, paths in definition.observables.items():
        found |= dict.fromkeys(paths, ENTITIES[name])
    for kind, paths in definition.entities.items():
        if kind in ENTITIES:
            found |= dict.fromkeys((path for path in paths if path not in found), ENTITIES[kind])
    for attribute, rule in definition.ocsf.items():
        kind_here = next((kind for ending, kind in _ENDINGS if attribute.endswith(ending)), None)
        paths = (rule,) if isinstance(rule, str) else rule if isinstance(rule, tuple) else ()
        if kind_here is not None:
            found |= dict.fromkeys((path for path in paths if path not in found), kind_here)
    return found
