"""Rule files: both forms, every problem with its place, the tests inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.core.errors import DefinitionError, Problems
from vedette.judge.payment.attributes import with_features
from vedette.judge.payment.files import MAX_FILE_BYTES, load_lists, load_rules, read_rules
from vedette.judge.payment.rules import HIGHEST_RISK, rule_id

YAML = """# ours
- id: large
  owner: risk@example.com
  text: "block if :amount_in_usd: > 300"
  tests:
    - {given: {":amount_in_usd:": 301}, expect: fired}
    - {given: {":Amount_In_USD:": 300}, expect: quiet}
    - {given: {":amount_in_usd:": null}, expect: unknown}
- text: |
    review if :is_checkout:
      and ::basket id:: = 'b'
  tests: [{given: {":is_checkout:": true, "::basket id::": b}, expect: fired}]
- id: listed
  text: 'allow if :email_domain: in @good'
"""


def problems(text: str, **how) -> list[tuple[str, str]]:
    with pytest.raises(Problems) as wrong:
        read_rules(text, path="r", **how)
    return [(problem.code, problem.place) for problem in wrong.value.problems]


def test_a_yaml_list(tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text("- {alias: good, item_type: string, items: [Example.com]}\n")
    (tmp_path / "r.yaml").write_text(YAML)
    rules = load_rules(tmp_path / "r.yaml", lists=load_lists(tmp_path / "l.yaml"))
    large, basket, listed, builtin = rules.rules
    assert (large.id, large.owner, len(large.tests), large.span.line, large.span.col) == (
        "large",
        "risk@example.com",
        3,
        4,
        10,
    )
    assert (basket.id, basket.span.line, basket.span.col) == (rule_id(basket.text), 10, 5)
    assert listed.result({":email_domain:": "EXAMPLE.COM"}) == "fired"
    assert builtin.id == HIGHEST_RISK


def test_bare_lines() -> None:
    rules = read_rules(
        "\ufeff\n# one\n  block if :is_checkout:\n\nallow if :is_recurring:\n".removeprefix("\ufeff"), path="r"
    )
    assert [str(rule.span) for rule in rules.rules[:2]] == ["r:3:3", "r:5:1"]
    moved = read_rules("allow if   :is_recurring:\nblock if :is_checkout:")
    assert {rule.id for rule in moved.rules} == {rule.id for rule in rules.rules}
    assert moved.version != rules.version


def test_an_empty_file_has_the_builtin_rule_only() -> None:
    for text in ("", "# nothing\n", "[]"):
        assert [rule.id for rule in read_rules(text).rules] == [HIGHEST_RISK]


def test_every_problem_has_its_place() -> None:
    assert problems("block if :is_checkout:\n  block if :nope: = 1\nblok if :is_checkout:\nblock if :is_checkout:") == [
        ("payment.name.unknown", "r:2:12"),
        ("payment.action.unknown", "r:3:1"),
        ("payment.rules.duplicate_id", "r:4:1"),
    ]
    text = """- text: "block if :amount_in_usd > 1"
- txt: a
- 5
- owner: me
- id: 7
  text: "block if :is_checkout:"
- text: |
    block if :is_checkout:
      and :amont_in_usd: > 5
- text: "block if :is_recurring:"
  tests: [{given: {":is_recurring:": true}, expect: quiet}]
"""
    assert problems(text) == [
        ("payment.rule.syntax", "r:1:19"),
        ("payment.file.unknown_key", "r:2:8"),
        ("payment.file.shape", "r:3:3"),
        ("payment.file.shape", "r:4:3"),
        ("payment.file.shape", "r:5:7"),
        ("payment.name.unknown", "r:9:11"),
        ("payment.test.failed", "r:10:10"),
    ]


@pytest.mark.parametrize(
    "tests",
    [
        "{given: {}}",
        "[{given: {}}]",
        "[{given: {}, expect: maybe}]",
        "[{given: {is_checkout: true}, expect: fired}]",
        '[{given: {":nope:": true}, expect: fired}]',
        '[{given: {":is_checkout:": [1]}, expect: fired}]',
        "[" + "{given: {}, expect: quiet}, " * 101 + "]",
    ],
)
def test_a_test_that_is_none(tests: str) -> None:
    assert problems(f'- text: "block if :is_checkout:"\n  tests: {tests}\n') == [("payment.test.invalid", "r:1:10")]


def test_files_that_are_no_rule_files(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as wrong:
        read_rules("- text: block if :is_checkout: and 1 = 2", path="r")
    assert "quotes" in wrong.value.hint
    bomb = "- &a [x]\n" + "".join(f"- &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8))
    with pytest.raises(DefinitionError) as wrong:
        read_rules(bomb)
    assert wrong.value.code == "documents.yaml.aliases"
    for name, content, code in (
        ("none", None, "payment.file.unreadable"),
        ("latin", b"block if :email: = '\xff'", "payment.file.unreadable"),
        ("large", b"#" * (MAX_FILE_BYTES + 1), "payment.file.too_large"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DefinitionError) as wrong:
            load_rules(tmp_path / name)
        assert wrong.value.code == code
    (tmp_path / "l").write_text("- {alias: a, item_type: country, items: [US, Canada]}\n")
    with pytest.raises(DefinitionError) as wrong:
        load_lists(tmp_path / "l")
    assert (wrong.value.code, str(wrong.value.span)) == ("payment.list.item", f"{tmp_path / 'l'}:1:46")


def test_features_are_names_too() -> None:
    assert problems("block if :customer_count_1d: > 5") == [("payment.name.unknown", "r:1:10")]
    assert read_rules("block if :customer_count_1d: > 5", attributes=with_features(["customer_count_1d"]))


FIELDS = {"TX_AMOUNT": ":amount_in_usd:", "CUSTOMER_ID": ":customer:", "TERMINAL_ID": "::terminal::"}
EVENT = "{TRANSACTION_ID: 1, TX_AMOUNT: 501, CUSTOMER_ID: 7, TERMINAL_ID: 9}"


@pytest.mark.parametrize("expect", ["fired", "true", "block"])
def test_a_test_may_be_an_event_in_its_own_fields(expect: str) -> None:
    text = "block if :amount_in_usd: > 500 and :customer: = '7' and ::terminal:: = '9'"
    rules = read_rules(f'- text: "{text}"\n  tests: [{{event: {EVENT}, expect: {expect}}}]\n', fields=FIELDS)
    assert rules.rules[0].tests[0].given == {":amount_in_usd:": 501, ":customer:": "7", "::terminal::": "9"}


@pytest.mark.parametrize("expect", ["quiet", "false", "unknown"])
def test_an_event_that_does_not_fulfil_its_test(expect: str) -> None:
    with pytest.raises(Problems) as wrong:
        read_rules(
            f'- text: "block if :amount_in_usd: > 500"\n  tests: [{{event: {EVENT}, expect: {expect}}}]\n',
            fields=FIELDS,
        )
    assert [each.code for each in wrong.value.problems] == ["payment.test.failed"]


def test_comments_after_a_rule() -> None:
    lines = "# all\nblock if ::a # b:: = 'c # d'   # why\n  review if :is_checkout: #tell\n"
    assert [rule.text for rule in read_rules(lines).rules][:2] == [
        "block if ::a # b:: = 'c # d'",
        "review if :is_checkout:",
    ]
