"""The command line: verbs are found by file, only the asked one is imported, errors are told in one way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

import vedette
from vedette.cli import main as cli
from vedette.core.errors import DefinitionError, Span

ENGINES = ["duckdb", "lightgbm", "sklearn", "pyarrow", "numba", "sigma", "sqlalchemy", "dbos", "fastapi", "deltalake"]


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Adds verbs to the command for one test."""
    import vedette.cli

    monkeypatch.setattr(vedette.cli, "__path__", [*vedette.cli.__path__, str(tmp_path)])
    monkeypatch.setattr(cli, "verbs", lambda: REAL_VERBS(tmp_path))

    def add(name: str, body: str) -> None:
        (tmp_path / f"{name}.py").write_text(f'"""Does {name}.\n\nMore."""\nimport typer\n\n{body}\n')
        sys.modules.pop(f"vedette.cli.{name}", None)

    return add


REAL_VERBS = cli.verbs


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    return stopped.value.code


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"vedette {vedette.__version__}\n"


def test_help_lists_every_verb_without_importing_it(verb, capsys):
    verb("aardvark", "raise RuntimeError('imported')")
    verb("two_words", "")
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "aardvark" in out
    assert "Does aardvark." in out
    assert "two-words" in out


def test_every_real_verb_has_one_line_of_help():
    for name, path in REAL_VERBS().items():
        assert cli.summary(path), name


def commands():
    """Every verb, and every verb with each of its own."""
    for name in REAL_VERBS():
        command = get_command(cli.build([name], REAL_VERBS()))
        verb = command.commands[name] if len(getattr(command, "commands", {})) else command
        yield (name,)
        yield from ((name, inner) for inner in getattr(verb, "commands", {}))


def test_the_help_of_every_verb_has_examples(capsys):
    for words in commands():
        assert run(*words, "--help") == 0
        assert "Example" in capsys.readouterr().out, words


def test_only_the_asked_verb_is_imported(verb, capsys):
    verb("broken", "raise RuntimeError('imported')")
    verb("good", "def register(app):\n    @app.command()\n    def good(n: int = 1) -> None:\n        typer.echo(n + 1)")
    assert run("good", "--n", "4") == 0
    assert capsys.readouterr().out == "5\n"


def test_unknown_verb_is_a_bad_command_line(capsys):
    assert run("nonesuch") == 2
    assert "nonesuch" in capsys.readouterr().err


RAISES = """
from vedette.core.errors import DefinitionError, Span
def register(app):
    @app.command()
    def bad(json: bool = False) -> None:
        raise DefinitionError("a.b.c", "no \\x1b[2J way", hint="turn", span=Span("f.yml", 3, 7))
"""


def test_errors_are_told_with_place_code_and_hint(verb, capsys):
    verb("bad", RAISES)
    assert run("bad") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: f.yml:3:7: no \\x1b[2J way [a.b.c] (turn)\n"


def test_errors_are_json_for_programs(verb, capsys):
    verb("bad", RAISES)
    assert run("bad", "--json") == 2
    error = DefinitionError("a.b.c", "no \x1b[2J way", hint="turn", span=Span("f.yml", 3, 7))
    assert msgspec.json.decode(capsys.readouterr().err) == {"error": error.to_dict()}


def test_verbs_choose_their_exit_code(verb):
    verb("no", "def register(app):\n    @app.command()\n    def no() -> None:\n        raise typer.Exit(1)")
    assert run("no") == 1


def test_a_bug_is_not_dressed_as_bad_input(verb):
    verb("bug", "def register(app):\n    @app.command()\n    def bug() -> None:\n        raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        cli.main(["bug"])


def test_closed_pipe_is_quiet(tmp_path):
    script = tmp_path / "flood.py"
    script.write_text(
        "import vedette.cli.main as m, typer\n"
        "def build(arguments, known):\n"
        "    app = typer.Typer()\n"
        "    @app.command()\n"
        "    def flood() -> None:\n"
        "        for n in range(200_000):\n"
        "            typer.echo('x' * 80)\n"
        "    return app\n"
        "m.build = build\n"
        "m.main([])\n"
    )
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
    assert child.stdout
    assert child.stderr
    child.stdout.readline()
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait() == cli.PIPE_CLOSED
    assert err == b""


ENV = {**os.environ, "PYTHONPATH": str(Path(vedette.__file__).parent.parent)}


def test_help_loads_no_engine():
    code = (
        "import sys\nfrom vedette.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {ENGINES} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, check=True)
    assert done.stderr == "[]\n"


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "vedette", "--version"], capture_output=True, text=True, env=ENV, check=True
    )
    assert done.stdout == f"vedette {vedette.__version__}\n"
