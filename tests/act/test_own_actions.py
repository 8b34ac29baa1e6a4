"""A user's own action: one file, loaded beside the shipped ones, checked as they are."""

from __future__ import annotations

import pytest

from vedette.act.connectors import ALL
from vedette.act.connectors.loading import load_actions
from vedette.core.errors import Problems

FILE = """
from vedette.act.actions import ActionResult, Argument, Repeats, Signature
from vedette.act.connectors.connector import Action


def perform(call, reach):
    return ActionResult({"said": call.arguments["word"]})


ACTIONS = (Action(Signature("say", "says a word", {"word": Argument(str)}, repeats=Repeats.READS), perform),)
"""


def codes(folder):
    with pytest.raises(Problems) as caught:
        load_actions(folder)
    return [problem.code for problem in caught.value.problems]


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "say.py").write_text(FILE)
    assert load_actions(tmp_path).keys() - ALL.keys() == {"say"}
    assert load_actions(tmp_path / "none") == ALL


def test_what_is_wrong_with_files_is_told_together(tmp_path):
    (tmp_path / "a.py").write_text("ACTIONS = 5")
    (tmp_path / "b.py").write_text("import nothing_of_that_name")
    (tmp_path / "c.py").write_text(FILE.replace('"say"', '"send_mail"'))
    (tmp_path / "d.py").write_text(FILE.replace("repeats=", 'undo="unsay", repeats='))
    writable = tmp_path / "e.py"
    writable.write_text(FILE)
    writable.chmod(0o666)
    assert sorted(codes(tmp_path)) == [
        "action.file.invalid",
        "action.file.invalid",
        "action.file.writable",
        "action.name.taken",
        "action.undo.unknown",
    ]
