"""The peers that benchmarks measure beside us, in a virtual environment of their own: they are no part of the product.

    python benchmarks/peers.py

makes `.venv-peers` from `requirements-peers.txt`. The variable `VEDETTE_PEERS` names another environment's Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"
WANTED = Path(__file__).with_name("requirements-peers.txt")


def python() -> Path | None:
    """The peers' Python; None when nobody made the environment."""
    named = os.environ.get("VEDETTE_PEERS")
    found = Path(named) if named else FOLDER / "bin" / "python"
    return found if found.exists() else None


def ask(code: str, *arguments: str) -> dict[str, Any]:
    """What a program prints as JSON when the peers' Python runs it; empty, and said so, when a peer is not there."""
    found = python()
    if found is None:
        print("  peers are missing: python benchmarks/peers.py makes them")
        return {}
    done = subprocess.run([found, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  a peer is missing: {done.stderr.strip().splitlines()[-1]}")
        return {}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    if not FOLDER.exists():
        venv.create(FOLDER, with_pip=True)
    subprocess.run([FOLDER / "bin" / "python", "-m", "pip", "install", "-q", "-r", WANTED], check=True)
    print(f"{FOLDER} holds {', '.join(WANTED.read_text().split())}", file=sys.stderr)


if __name__ == "__main__":
    main()
