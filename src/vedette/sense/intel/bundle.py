"""Reads a STIX 2.1 bundle of ATT&CK, and keeps what was imported in the home.

Only what is asked for is decoded, so the 50 MB of a full bundle take a second. Ids that changed after a bundle was made
may come in a crosswalk beside it: lines of `revoked<TAB>replaced_by`. Where both speak, the bundle's `revoked-by` wins.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from vedette.core.errors import DataError, NotFoundError
from vedette.sense.intel.attack import Attack, Group, Tactic, Technique, parent

MAX_BYTES = 256 * 1024 * 1024
"""Largest bundle, unpacked."""
MAX_CROSSWALK_BYTES = 1024 * 1024

_GZIP = b"\x1f\x8b"
_ID = re.compile(r"T\d{4}(?:\.\d{3})?")
_IN_NAME = re.compile(r"attack-?v?(\d{1,3}(?:\.\d{1,3}){0,2})(?=\D|$)")


class _Reference(msgspec.Struct, frozen=True):
    source_name: str = ""
    external_id: str = ""


class _Phase(msgspec.Struct, frozen=True):
    kill_chain_name: str = ""
    phase_name: str = ""


class _Item(msgspec.Struct, frozen=True):
    """What we read of any object."""

    type: str
    id: str = ""
    name: str = ""
    modified: str = ""
    revoked: bool = False
    x_mitre_deprecated: bool = False
    x_mitre_version: str = ""
    x_mitre_shortname: str = ""
    x_mitre_platforms: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    tactic_refs: tuple[str, ...] = ()
    external_references: tuple[_Reference, ...] = ()
    kill_chain_phases: tuple[_Phase, ...] = ()
    relationship_type: str = ""
    source_ref: str = ""
    target_ref: str = ""

    @property
    def own(self) -> str:
        """ATT&CK's id of it, such as `T1059`."""
        return next((one.external_id for one in self.external_references if one.source_name == "mitre-attack"), "")


class _Bundle(msgspec.Struct, frozen=True):
    type: str
    objects: tuple[_Item, ...] = ()


class Imported(msgspec.Struct, frozen=True):
    """What a home holds."""

    attack: Attack
    origin: str
    """File or URL it came from."""
    time: int
    """Of the import, microseconds UTC."""
    crosswalk: Mapping[str, str] = {}
    """Old id -> new one, as it was given."""


def load_attack(path: Path, crosswalk: Path | None = None) -> Attack:
    """Reads a bundle from a file, plain or gzip.

    Args:
        path: Of the bundle.
        crosswalk: Ids that changed since.

    Raises:
        DataError: `intel.attack.unreadable`, and what `parse_attack` and `parse_crosswalk` raise.
    """
    changed = parse_crosswalk(_read(crosswalk, MAX_CROSSWALK_BYTES)) if crosswalk else {}
    return parse_attack(_read(path, MAX_BYTES), changed, name=path.name)


def parse_attack(content: bytes, crosswalk: Mapping[str, str] | None = None, *, name: str = "") -> Attack:
    """A bundle in hand.

    Args:
        content: JSON, or that in gzip.
        crosswalk: Old id -> new one.
        name: Of its file, for the version of a bundle that does not say it.

    Raises:
        DataError: `intel.attack.invalid`, `intel.attack.too_large`, `intel.attack.empty`.
    """
    raw = _unpack(content) if content.startswith(_GZIP) else content
    try:
        bundle = msgspec.json.decode(raw, type=_Bundle)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError("intel.attack.invalid", f"no STIX bundle: {error}", at=name) from error
    items = bundle.objects
    techniques = _techniques(items)
    if bundle.type != "bundle" or not techniques:
        raise DataError("intel.attack.empty", "the bundle holds no technique of ATT&CK", at=name)
    _cross(techniques, crosswalk or {})
    return Attack(
        version=_version(items, name),
        sha256=hashlib.sha256(raw).hexdigest(),
        techniques=dict(sorted(techniques.items())),
        tactics=_tactics(items),
        groups=_groups(items),
    )


def parse_crosswalk(content: bytes) -> dict[str, str]:
    """Old id -> new one, of tab-separated lines; the first line may be a head.

    Raises:
        DataError: `intel.crosswalk.invalid` with the line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        cells = line.strip().split("\t")
        if cells == [""] or (number == 1 and not _ID.fullmatch(cells[0])):
            continue
        if len(cells) != 2 or not all(map(_ID.fullmatch, cells)):  # noqa: PLR2004 - a pair
            raise DataError("intel.crosswalk.invalid", "a line is an old id, a tab and a new id", at=f"line {number}")
        found[cells[0]] = cells[1]
    return found


def keep_attack(folder: Path, imported: Imported) -> None:
    """Puts what was imported in place of what was there before, whole or not at all.

    Args:
        folder: Of the home.
        imported: What to keep.
    """
    path = _place(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode(imported))
    fresh.replace(path)


def kept_attack(folder: Path) -> Imported | None:
    """What was imported into a home; None when nothing was.

    Raises:
        DataError: `intel.attack.damaged` when its file cannot be read any more.
    """
    path = _place(folder)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Imported)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            "intel.attack.damaged", "what was imported cannot be read", at=str(path), hint="import ATT&CK again"
        ) from error


def need_attack(folder: Path) -> Attack:
    """What was imported into a home.

    Raises:
        NotFoundError: `intel.attack.missing`.
        DataError: `intel.attack.damaged`.
    """
    imported = kept_attack(folder)
    if imported is None:
        raise NotFoundError(
            "intel.attack.missing", f"no ATT&CK is imported in `{folder}`", hint="vedette intel import attack FILE"
        )
    return imported.attack


def _place(folder: Path) -> Path:
    return folder / "intel" / "attack.json"


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise DataError("intel.attack.unreadable", f"cannot be read: {error.strerror}", at=str(path)) from error
    if len(content) > limit:
        raise DataError("intel.attack.too_large", f"larger than {limit} bytes", at=str(path))
    return content


def _unpack(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("intel.attack.invalid", f"the gzip file is damaged: {error}") from error
    if len(raw) > MAX_BYTES:
        raise DataError("intel.attack.too_large", f"larger than {MAX_BYTES} bytes once unpacked")
    return raw


def _techniques(items: Iterable[_Item]) -> dict[str, Technique]:
    patterns = {one.id: one for one in items if one.type == "attack-pattern" and _ID.fullmatch(one.own)}
    revoked = {one.source_ref: one.target_ref for one in _related(items, "revoked-by")}
    found: dict[str, Technique] = {}
    # An id may stand in a bundle twice, revoked and not: the standing one is written last.
    for one in sorted(patterns.values(), key=lambda one: not (one.revoked or one.x_mitre_deprecated)):
        heir = patterns.get(revoked.get(one.id, ""))
        found[one.own] = Technique(
            id=one.own,
            name=one.name,
            tactics=tuple(phase.phase_name for phase in one.kill_chain_phases),
            revoked_by=heir.own if heir and one.revoked and heir.own != one.own else "",
            deprecated=one.x_mitre_deprecated or (one.revoked and heir is None),
            platforms=one.x_mitre_platforms,
        )
    return found


def _cross(techniques: dict[str, Technique], crosswalk: Mapping[str, str]) -> None:
    """Marks what a crosswalk revokes. An heir that the bundle does not have yet takes over what the old one was."""
    # The most specific of its forerunners names an heir best.
    for old, new in sorted(crosswalk.items(), key=lambda pair: (-len(pair[0]), pair[0])):
        was = techniques.get(old) or Technique(old, old, added=True)
        if was.revoked_by:
            continue
        if new not in techniques:
            techniques[new] = msgspec.structs.replace(
                was, id=new, name=new if was.name == old else was.name, added=True
            )
        techniques[old] = msgspec.structs.replace(was, revoked_by=new)
    for one in list(techniques.values()):
        above = parent(one.id)
        if one.added and not one.revoked_by and above and above not in techniques:
            techniques[above] = msgspec.structs.replace(one, id=above, name=above, revoked_by="", added=True)


def _tactics(items: Iterable[_Item]) -> tuple[Tactic, ...]:
    """In the order of the matrices; what no matrix holds is none."""
    by_ref = {one.id: one for one in items if one.type == "x-mitre-tactic" and not one.revoked}
    refs = (ref for one in items if one.type == "x-mitre-matrix" for ref in one.tactic_refs)
    return tuple(
        Tactic(one.own, one.name, one.x_mitre_shortname)
        for one in (by_ref[ref] for ref in dict.fromkeys(refs) if ref in by_ref)
    )


def _groups(items: Iterable[_Item]) -> dict[str, Group]:
    names = {one.id: one.own for one in items if one.type == "attack-pattern"}
    used: dict[str, set[str]] = {}
    for one in _related(items, "uses"):
        if one.target_ref in names:
            used.setdefault(one.source_ref, set()).add(names[one.target_ref])
    groups = (one for one in items if one.type == "intrusion-set" and not one.revoked and not one.x_mitre_deprecated)
    return {one.own: Group(one.own, one.name, one.aliases, tuple(sorted(used.get(one.id, ())))) for one in groups}


def _related(items: Iterable[_Item], kind: str) -> Iterable[_Item]:
    return (one for one in items if one.relationship_type == kind and not one.revoked and not one.x_mitre_deprecated)


def _version(items: Iterable[_Item], name: str) -> str:
    collection = next((one for one in items if one.type == "x-mitre-collection" and one.x_mitre_version), None)
    if collection:
        return collection.x_mitre_version
    found = _IN_NAME.search(name.replace("enterprise-", ""))
    return found[1] if found else max(one.modified for one in items)[:10]
