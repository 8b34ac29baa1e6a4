"""The console's static files: our own, and the libraries that set-up copies in. Held in memory, told by their hash."""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from vedette.core.errors import NotFoundError, PermanentError
from vedette.serve.policy import anyone

FOLDER = Path(__file__).parent / "static"
VENDOR = "vendor"
SUMS = Path(__file__).parent / "vendor.sha256"
"""`SHA-256  name` of every library file, as `sha256sum` writes it."""

FOREVER = "public, max-age=31536000, immutable"
"""For an address that names the file's hash: other content has another address."""

router = APIRouter(tags=["console"], include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    body: bytes
    media_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Path under `static/` -> file."""
    found: dict[str, Asset] = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            body = path.read_bytes()
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            kind = "text/javascript" if path.suffix == ".js" else kind
            found[path.relative_to(FOLDER).as_posix()] = Asset(body, kind, hashlib.sha256(body).hexdigest())
    return found


def versioned(name: str) -> str:
    """Address of a file, with its hash, so that browsers keep it until it changes."""
    asset = assets().get(name)
    return f"/static/{name}?v={asset.digest[:12]}" if asset else f"/static/{name}"


def expected() -> dict[str, str]:
    """Library file -> SHA-256 it must have."""
    lines = SUMS.read_text(encoding="ascii").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def check_assets() -> None:
    """Refuses to serve a console whose libraries are missing or not the pinned ones.

    Raises:
        PermanentError: `console.assets.missing`, `console.assets.changed`.
    """
    have = {name.removeprefix(f"{VENDOR}/"): asset.digest for name, asset in assets().items()}
    for name, digest in expected().items():
        if name not in have:
            raise PermanentError(
                "console.assets.missing",
                "a library of the console is not installed",
                hint="run `make setup`, or `scripts/assets` to fetch only these",
                at=f"{FOLDER.name}/{VENDOR}/{name}",
            )
        if have[name] != digest:
            raise PermanentError(
                "console.assets.changed",
                "a library of the console is not the pinned one",
                hint="run `scripts/assets` to fetch it again",
                at=f"{FOLDER.name}/{VENDOR}/{name}",
            )


@router.get("/static/{name:path}", dependencies=[anyone()])
async def static(request: Request, name: str) -> Response:
    """A static file; kept for good under the address that names its hash."""
    asset = assets().get(name)
    if asset is None:
        raise NotFoundError("http.route", "there is nothing at this path", at=name[:64])
    tag = f'"{asset.digest[:32]}"'
    current = request.query_params.get("v") == asset.digest[:12]
    headers = {"etag": tag, "cache-control": FOREVER if current else "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
