"""Finds the verb that is asked for, runs it, and turns errors into messages and exit codes.

Exit codes: 0 done; 1 the verb's own answer is no (a check failed, an audit found damage); 2 a definition, an input or
the command line is wrong; 130 interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from typer.main import get_command

import vedette
from vedette.core.errors import VedetteError
from vedette.core.render import printable

BAD_INPUT = 2
"""Exit code when a definition, an input or the command line is wrong."""

PIPE_CLOSED = 141
"""Exit code when nobody reads our output any more: 128 + SIGPIPE, as other commands of a shell pipeline give."""

_NOT_VERBS = {"__init__", "main"}
_HELP = """One engine for payment decisions, threat detection, response and evidence.

Run `vedette VERB --help` for a verb's options and examples."""
_EPILOG = "Exit codes: 0 done; 1 the answer is no (a check failed); 2 bad definition, input or command line."


def verbs(folder: Path = Path(__file__).parent) -> dict[str, Path]:
    """Verb -> its file, in alphabetical order. A file's underscore is a dash on the command line.

    A verb of several is a folder, told by its `__init__.py`.
    """
    files = {path.stem: path for path in folder.glob("*.py")} | {
        path.parent.name: path for path in folder.glob("*/__init__.py")
    }
    return {
        name.replace("_", "-"): path
        for name, path in sorted(files.items())
        if name not in _NOT_VERBS and not name.startswith("_")
    }


def summary(path: Path) -> str:
    """First line of a verb's docstring, read without importing its engines."""
    doc = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return doc.partition("\n")[0]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vedette {vedette.__version__}")
        raise typer.Exit


def _root(
    _version_: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that stand before the verb."""


def build(arguments: Sequence[str], known: Mapping[str, Path]) -> typer.Typer:
    """The application for these arguments: the asked verb in full, or every verb by name and help only."""
    app = typer.Typer(
        name="vedette", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=_EPILOG
    )
    app.callback(help=_HELP)(_root)
    _mount(app, "vedette.cli", known, [word for word in arguments if not word.startswith("-")])
    return app


def _mount(app: typer.Typer, package: str, known: Mapping[str, Path], words: Sequence[str]) -> None:
    """Adds the verb that is asked for, or every verb by name and help only.

    A folder without a `register` of its own is mounted likewise: a file for each of its verbs.
    """
    asked = words[0] if words else ""
    if asked not in known:
        for verb, path in known.items():
            app.command(name=verb, help=summary(path))(lambda: None)
        return
    module = importlib.import_module(f"{package}.{asked.replace('-', '_')}")
    register = getattr(module, "register", None)
    if register:
        register(app)
        return
    group = typer.Typer(no_args_is_help=True, epilog=module.EXAMPLES)
    _mount(group, module.__name__, verbs(known[asked].parent), words[1:])
    app.add_typer(group, name=asked, help=module.__doc__)


def _report(error: VedetteError, arguments: Sequence[str]) -> None:
    """One line of JSON for programs, one sentence for people; on stderr, so that output stays clean."""
    as_json = "--json" in arguments
    text = msgspec.json.encode({"error": error.to_dict()}).decode() if as_json else f"error: {error}"
    typer.echo(printable(text, lines=True), err=True)


def _flush() -> int:
    """Pushes out what is buffered; a closed pipe is told by the exit code, not by a traceback at shutdown."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return 0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `vedette` command.

    Args:
        arguments: What follows the command's name; the process's own by default.

    Raises:
        SystemExit: Always, with one of the exit codes above.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    code: str | int | None
    try:
        get_command(build(given, verbs()))(args=given, prog_name="vedette")
        code = 0
    except VedetteError as error:
        _report(error, given)
        code = BAD_INPUT
    except SystemExit as stop:
        code = PIPE_CLOSED if isinstance(stop.__context__, BrokenPipeError) else stop.code
    raise SystemExit(_flush() or code)
