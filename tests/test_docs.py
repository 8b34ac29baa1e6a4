"""The documents are tests: their Python runs, their commands print what they say, the modules' examples too.

In README.md and docs/, a fenced `python` block is run, blocks of one page sharing their names; a fenced `text` block
right after it is what it must print. In a `console` block, each line `$ vedette ...` is run in an empty folder that holds
the repository's `content/`, and the lines after it are what it must print; `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "src" / "vedette").rglob("*.py"))
    if ">>> " in path.read_text()
]
_FENCE = re.compile(r"^```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    kind: str
    body: str
    line: int
    output: str | None = None


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks that are checked, in order; a `text` block belongs to the `python` block right before it."""
    found = list(_FENCE.finditer(text))
    for here, after in zip_longest(found, found[1:]):
        line = text.count("\n", 0, here.start()) + 1
        follows = after is not None and after["kind"] == "text" and not text[here.end() : after.start()].strip()
        if here["kind"] == "python":
            yield Block("python", here["body"], line, after["body"] if follows else None)
        elif here["kind"] == "console":
            yield Block("console", here["body"], line)


def agree(want: str, got: str) -> None:
    """`...` in what is wanted stands for anything; ends of lines do not count."""
    tidy = [re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip() for text in (want, got)]
    if not doctest.OutputChecker().check_output(tidy[0] + "\n", tidy[1] + "\n", doctest.ELLIPSIS):
        pytest.fail(f"expected:\n{tidy[0]}\ngot:\n{tidy[1]}", pytrace=False)


def run_python(block: Block, names: dict[str, object]) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\n" * block.line + block.body, "page", "exec"), names)
    if block.output is not None:
        agree(block.output, out.getvalue())


def commands(body: str) -> Iterator[tuple[str, str]]:
    """Command lines of a console block, each with the output that follows it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = command[:-1] + more
        yield command, output


def run_console(block: Block, folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    for command, output in commands(block.body):
        words = shlex.split(command)
        if words[0] != "vedette":
            continue
        full = [sys.executable, "-m", *words]
        done = subprocess.run(full, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
        agree(output, done.stdout + done.stderr)


def check_page(text: str, folder: Path) -> int:
    """Runs every block; returns how many there were."""
    names: dict[str, object] = {"__name__": "page"}
    found = list(blocks(text))
    for block in found:
        if block.kind == "python":
            run_python(block, names)
        else:
            run_console(block, folder)
    return len(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if (ROOT / "content").is_dir():
        shutil.copytree(ROOT / "content", tmp_path / "content")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_page(page: Path, folder: Path):
    check_page(page.read_text(), folder)


@pytest.mark.parametrize("name", MODULES)
def test_module_examples(name: str):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert (result.failed, result.attempted > 0) == (0, True)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


GOOD = """
```python
x = 20
```
```python
print(x + 1)
print("end")
```

```text
21
...
```

```console
$ vedette --version
vedette ...
```
"""


def test_a_good_page_passes(folder):
    assert check_page(GOOD, folder) == 3


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("21\n...", "22\n..."), ("x = 20", "x = y"), ("vedette ...\n```", "vedette 9.9\n```"), ("--version", "--nope")],
)
def test_a_wrong_page_is_seen(right, wrong, folder):
    assert right in GOOD
    with pytest.raises((pytest.fail.Exception, NameError)):
        check_page(GOOD.replace(right, wrong), folder)
