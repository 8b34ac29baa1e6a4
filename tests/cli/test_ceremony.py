"""Ceremonies as people hold them: prompts, shares on the screen, files that verify elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vedette.cli.main import build, verbs

PHRASES = {"ann": "a phrase that ann knows", "ben": "a phrase that ben knows"}
PEOPLE = ("Ada", "Bo", "Cy")


class Desk:
    """A folder with two officers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"VEDETTE_SECRET_CUSTODY_PASSPHRASE": "opens the file of keys"}
        self.trusted = []
        for name, phrase in PHRASES.items():
            path = self.path(f"{name}.pem")
            made = self.run("officer", f"{name}.example", path, said=[phrase, phrase])
            assert made.exit_code == 0, made.output
            self.trusted.append(made.stdout.strip().splitlines()[-1])

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def run(self, *arguments: str, said: list[str] | None = None) -> Result:
        said_lines = "".join(f"{line}\n" for line in said or [])
        return CliRunner().invoke(
            build(["ceremony"], verbs()), ["ceremony", *arguments], input=said_lines, env=self.environ
        )

    def officers(self) -> list[str]:
        return [part for name in PHRASES for part in ("--officer", self.path(f"{name}.pem"))]

    def make(self, said: list[str]) -> Result:
        people = [part for name in PEOPLE for part in ("--custodian", name)]
        where = ["--keys", f"file:{self.path('keys.json')}", "--transcript", self.path("root.json")]
        arguments = ["make", "vault:acme:1", "--threshold", "2", *people, *self.officers(), *where]
        return self.run(*arguments, said=[*PHRASES.values(), *said])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_nobody_who_cannot_repeat_the_words_gets_a_key(desk: Desk) -> None:
    held = desk.make(["", "", *["wrong", "wrong", "wrong", "y"] * 3])
    assert held.exit_code != 0
    verified = desk.run("verify", desk.path("root.json"), "--trust", desk.trusted[0], "--trust", desk.trusted[1])
    assert verified.exit_code == 0
    assert "aborted" in verified.stdout
    assert "vault:acme:1" not in Path(desk.path("keys.json")).read_text()


def test_from_the_first_share_to_the_rebuilt_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from vedette.prove.custody.ceremony import Making

    shown: dict[str, str] = {}
    show, ask = Making.show, Making.ask

    def remember(self, name):
        share = show(self, name)
        shown[name] = share.reveal()
        return share

    answers: list[str] = []

    def prompt(text, **options):
        """A person at the screen: reads it, and types what is asked for."""
        if found := re.fullmatch(r"(\w+), word (\d+)", text):
            return shown[found[1]].split()[int(found[2]) - 1]
        if text.startswith("Passphrase of "):
            return PHRASES[text.split()[-1]]
        if text.endswith("the words of your share"):
            return shown[text.split(",")[0]]
        answers.append(text)
        return ""

    monkeypatch.setattr(Making, "show", remember)
    monkeypatch.setattr(Making, "ask", ask)
    monkeypatch.setattr("vedette.cli.ceremony.typer.prompt", prompt)
    monkeypatch.setattr("vedette.cli.ceremony.typer.confirm", lambda *_, **__: True)
    made = desk.make([])
    assert made.exit_code == 0, made.output
    assert len(answers) == 6
    check = re.search(r"check value ([0-9a-f]{6})", made.stdout)
    assert check
    words = {name: share.split() for name, share in shown.items()}
    assert not any(" ".join(share[3:6]) in made.stdout for share in words.values())

    verified = desk.run("verify", desk.path("root.json"), "--json", *[x for k in desk.trusted for x in ("--trust", k)])
    assert json.loads(verified.stdout) | {"id": ""} == {
        "id": "",
        "goal": "make",
        "label": "vault:acme:1",
        "check": check[1],
        "threshold": 2,
        "custodians": list(PEOPLE),
        "officers": ["ann.example", "ben.example"],
        "trusted": True,
    }
    where = ["--keys", f"file:{desk.path('other.json')}", "--transcript", desk.path("again.json")]
    present = ["--custodian", "Cy", "--custodian", "Ada"]
    rebuilt = desk.run("rebuild", "--of", desk.path("root.json"), *present, *desk.officers(), *where)
    assert rebuilt.exit_code == 0, rebuilt.output
    assert f"check value {check[1]}" in rebuilt.stdout
    assert "no problem" not in rebuilt.output
    assert desk.run("verify", desk.path("again.json")).exit_code == 0


def test_what_is_wrong_is_said(desk: Desk) -> None:
    for arguments, code in (
        (["verify", desk.path("none.json")], "ceremony.transcript.unreadable"),
        (["verify", desk.path("ann.pem")], "ceremony.transcript.unreadable"),
        (["officer", "ann", desk.path("ann.pem")], "ceremony.officer.exists"),
    ):
        result = desk.run(*arguments, said=["x", "x"] * 2)
        assert result.exit_code != 0
        assert getattr(result.exception, "code", "") == code, result.output
