"""Reads playbooks from YAML. Every problem is collected, with its code and its place `path:line:col`.

What is checked before anything runs: names and types of fields; actions and their arguments; that every reference names
something that is there by then; that every drastic action is covered by an approval before it, and that what is
approved does not depend on anything that happens after it; that secrets are named, never written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vedette.act.actions import SIGNATURES, Signature
from vedette.act.playbooks.checks import check, near
from vedette.act.playbooks.conditions import parse_condition
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    Compensation,
    IfStep,
    Input,
    InputType,
    OnFailure,
    Playbook,
    Step,
    WhileStep,
)
from vedette.act.playbooks.references import REFERENCE
from vedette.core.errors import DefinitionError, Problems, Span
from vedette.core.execute import MAX_ATTEMPTS, Retry

MAX_STEPS = 100
MAX_DEPTH = 6
MAX_BYTES = 256 * 1024
MAX_DEADLINE_S = 30 * 86_400
MAX_TIMEOUT_S = 3_600.0
MAX_ROUNDS = 100

_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}

_BOOK = {"id": True, "version": True, "title": True, "owner": True, "steps": True}
_BOOK |= dict.fromkeys(("description", "inputs", "secrets"), False)
_STEPS: dict[str, dict[str, bool]] = {
    "action": {"action": True} | dict.fromkeys("arguments retry timeout on_failure compensation".split(), False),
    "approval": {"title": True, "covers": True, "deadline": True, "evidence": False, "on_denied": False},
    "if-condition": {"condition": True, "on_true": False, "on_false": False},
    "while-condition": {"condition": True, "steps": True, "limit": True, "delay": False},
}
"""Step type -> its own fields and whether each must be there."""


class Source(Protocol):
    """A parsed document that knows where its values stand."""

    @property
    def data(self) -> Any:
        """Plain values."""

    def span(self, json_path: str) -> Span:
        """Place of the value at `$.steps[0].action` and the like."""


def load_playbook(path: Path, signatures: Mapping[str, Signature] = SIGNATURES) -> Playbook:
    """Reads and checks a playbook file.

    Raises:
        DefinitionError: `playbook.file.unreadable`; `documents.*`: no readable YAML.
        Problems: everything that is wrong with it.
    """
    from vedette.core.documents import load_yaml

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DefinitionError("playbook.file.unreadable", error.strerror or "cannot be read", at=str(path)) from error
    return read_playbook(load_yaml(raw, path=str(path)), signatures)


def read_playbook(source: Source, signatures: Mapping[str, Signature] = SIGNATURES) -> Playbook:
    """Checks a parsed document.

    Raises:
        Problems: everything that is wrong with it.
    """
    reader = _Reader(source, signatures)
    playbook = reader.playbook()
    if playbook and not reader.problems:
        reader.whole(playbook)
    if reader.problems or playbook is None:
        raise Problems(
            sorted(reader.problems, key=lambda each: (each.span.line, each.span.col) if each.span else (0, 0))
        )
    return playbook


def _place(problem: DefinitionError) -> tuple[int, int]:
    return (problem.span.line, problem.span.col) if problem.span else (0, 0)


class _Reader:
    def __init__(self, source: Source, signatures: Mapping[str, Signature]) -> None:
        self._source = source
        self._signatures = signatures
        self.problems: list[DefinitionError] = []
        self._places: dict[str, str] = {}

    def _problem(self, code: str, message: str, path: str, *, hint: str = "") -> None:
        span = self._source.span(path)
        self.problems.append(DefinitionError(f"playbook.{code}", message, hint=hint, span=span, at=path))

    def playbook(self) -> Playbook | None:
        data = self._object(self._source.data, "$", _BOOK)
        if data is None:
            return None
        inputs = data.get("inputs", {})
        if not isinstance(inputs, dict):
            self._problem("field.type", "`inputs` must be an object", "$.inputs")
            inputs = {}
        names = self._names(data.get("secrets", []), "$.secrets")
        return Playbook(
            id=self._id(data.get("id"), "$.id"),
            version=self._integer(data.get("version"), "$.version", 1, 2**31),
            title=self._text(data.get("title"), "$.title"),
            owner=self._text(data.get("owner"), "$.owner"),
            description=self._text(data.get("description", "-"), "$.description").removeprefix("-"),
            inputs={str(name): self._input(str(name), spec) for name, spec in inputs.items()},
            secrets=names,
            steps=self._steps(data.get("steps", []), "$.steps", 0),
        )

    def _input(self, name: str, data: Any) -> Input:
        path = f"$.inputs.{name}"
        known = dict.fromkeys(("type", "from", "required", "description"), False)
        spec = self._object(data, path, known) or {}
        kind = spec.get("type", "text")
        if kind not in list(InputType):
            self._problem("field.type", f"an input is one of {', '.join(InputType)}", f"{path}.type")
            kind = "text"
        required = spec.get("required", True)
        if not isinstance(required, bool):
            self._problem("field.type", "`required` must be true or false", f"{path}.required")
            required = True
        source = self._text(spec.get("from", "-"), f"{path}.from").removeprefix("-")
        if source and not (REFERENCE.fullmatch(source) and source.startswith("${alert.")):
            hint = "such as ${alert.entities.key}"
            self._problem("reference.unknown", "an input comes from the alert", f"{path}.from", hint=hint)
        return Input(type=InputType(kind), source=source, required=required)

    def _steps(self, data: Any, path: str, depth: int) -> tuple[Step, ...]:
        if not isinstance(data, list) or depth > MAX_DEPTH:
            self._problem("field.type", f"steps are a list, nested at most {MAX_DEPTH} deep", path)
            return ()
        found = [self._step(each, f"{path}[{number}]", depth) for number, each in enumerate(data)]
        return tuple(step for step in found if step is not None)

    def _step(self, data: Any, path: str, depth: int) -> Step | None:
        kind = data.get("type") if isinstance(data, dict) else None
        if not isinstance(kind, str) or kind not in _STEPS:
            hint = f"one of {', '.join(_STEPS)}"
            self._problem("step.type", f"unknown step type `{kind!s:.40}`", path, hint=hint)
            return None
        fields = self._object(data, path, {"id": True, "type": True, **_STEPS[kind]})
        if fields is None:
            return None
        name = self._id(fields.get("id"), f"{path}.id")
        if name in self._places:
            place = self._source.span(self._places[name])
            self._problem("step.duplicate", f"step `{name}` is there twice", f"{path}.id", hint=f"first at {place}")
        self._places[name] = path
        if len(self._places) == MAX_STEPS + 1:
            self._problem("step.count", f"more than {MAX_STEPS} steps", path)
        match kind:
            case "action":
                return self._action(name, fields, path)
            case "approval":
                return ApprovalStep(
                    id=name,
                    title=self._text(fields.get("title"), f"{path}.title"),
                    covers=self._names(fields.get("covers", []), f"{path}.covers"),
                    evidence=self._names(fields.get("evidence", []), f"{path}.evidence"),
                    deadline_s=self._duration(fields.get("deadline"), f"{path}.deadline", MAX_DEADLINE_S),
                    on_denied=self._steps(fields.get("on_denied", []), f"{path}.on_denied", depth + 1),
                )
            case "if-condition":
                return IfStep(
                    id=name,
                    condition=self._condition(fields.get("condition"), f"{path}.condition"),
                    on_true=self._steps(fields.get("on_true", []), f"{path}.on_true", depth + 1),
                    on_false=self._steps(fields.get("on_false", []), f"{path}.on_false", depth + 1),
                )
            case _:
                return WhileStep(
                    id=name,
                    condition=self._condition(fields.get("condition"), f"{path}.condition"),
                    steps=self._steps(fields.get("steps", []), f"{path}.steps", depth + 1),
                    limit=self._integer(fields.get("limit"), f"{path}.limit", 1, MAX_ROUNDS),
                    delay_s=self._duration(fields.get("delay", 0), f"{path}.delay", MAX_DEADLINE_S),
                )

    def _action(self, name: str, fields: dict[str, Any], path: str) -> ActionStep:
        action, arguments = self._call(fields, path)
        failure = fields.get("on_failure", "stop")
        if failure not in list(OnFailure):
            self._problem("field.type", f"`on_failure` is one of {', '.join(OnFailure)}", f"{path}.on_failure")
            failure = "stop"
        undo = None
        if "compensation" in fields:
            below = f"{path}.compensation"
            data = self._object(fields["compensation"], below, {"action": True, "arguments": False})
            if data is not None:
                undone, given = self._call(data, below)
                undo = Compensation(action=undone, arguments=given)
        return ActionStep(
            id=name,
            action=action,
            arguments=arguments,
            retry=self._retry(fields.get("retry", {}), f"{path}.retry"),
            timeout_s=self._duration(fields.get("timeout", 60), f"{path}.timeout", MAX_TIMEOUT_S),
            on_failure=OnFailure(failure),
            compensation=undo,
            drastic=action in self._signatures and self._signatures[action].drastic,
        )

    def _call(self, fields: Mapping[str, Any], path: str) -> tuple[str, dict[str, Any]]:
        action = self._text(fields.get("action"), f"{path}.action")
        given = fields.get("arguments", {})
        if not isinstance(given, dict):
            self._problem("field.type", "`arguments` must be an object", f"{path}.arguments")
            given = {}
        signature = self._signatures.get(action)
        if signature is None:
            self._problem(
                "action.unknown", f"unknown action `{action}`", f"{path}.action", hint=near(action, self._signatures)
            )
            return action, given
        for name in given:
            if name not in signature.arguments:
                hint = near(str(name), signature.arguments)
                self._problem("argument.unknown", f"`{action}` has no `{name}`", f"{path}.arguments.{name}", hint=hint)
        for name, spec in signature.arguments.items():
            where = f"{path}.arguments.{name}"
            value = given.get(name)
            if value is None:
                if spec.required:
                    self._problem("argument.missing", f"`{action}` needs `{name}`", path)
            elif spec.secret and not (isinstance(value, str) and re.fullmatch(r"\$\{secrets\.[\w.-]+\}", value)):
                hint = "declare it under `secrets` and write ${secrets.NAME}"
                self._problem("secret.literal", f"`{name}` takes a secret's name, never a value", where, hint=hint)
            elif not (type(value) is spec.type or (isinstance(value, str) and REFERENCE.search(value))):
                self._problem("argument.type", f"`{name}` must be a {spec.type.__name__}", where)
        return action, given

    def _retry(self, data: Any, path: str) -> Retry:
        fields = self._object(data, path, dict.fromkeys(("attempts", "delay", "backoff", "max_delay"), False)) or {}
        backoff = fields.get("backoff", 2.0)
        if type(backoff) not in (int, float) or not 1 <= backoff <= 10:  # noqa: PLR2004 - said in the message
            self._problem("field.type", "`backoff` is a number from 1 to 10", f"{path}.backoff")
            backoff = 2.0
        return Retry(
            attempts=self._integer(fields.get("attempts", 1), f"{path}.attempts", 1, MAX_ATTEMPTS),
            delay_s=self._duration(fields.get("delay", 1), f"{path}.delay", MAX_TIMEOUT_S),
            backoff=float(backoff),
            max_delay_s=self._duration(fields.get("max_delay", 300), f"{path}.max_delay", MAX_DEADLINE_S),
        )

    def _condition(self, data: Any, path: str) -> Any:
        try:
            parse_condition(data)
        except DefinitionError as error:
            self._problem("condition.invalid", error.message, path)
        return data

    def _object(self, data: Any, path: str, known: Mapping[str, bool]) -> dict[str, Any] | None:
        if not isinstance(data, dict):
            self._problem("field.type", "this must be an object", path)
            return None
        for name in data:
            if name not in known:
                hint = near(str(name), known)
                self._problem("field.unknown", f"unknown field `{name!s:.40}`", f"{path}.{name}", hint=hint)
        for name, required in known.items():
            if required and data.get(name) is None:
                self._problem("field.missing", f"field `{name}` is missing", path)
        # An empty field is an absent one.
        return {name: value for name, value in data.items() if name in known and value is not None}

    def _text(self, value: Any, path: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        if value is not None:
            self._problem("field.type", "this must be a text", path)
        return ""

    def _id(self, value: Any, path: str) -> str:
        if isinstance(value, str) and _ID.fullmatch(value):
            return value
        if value is not None:
            self._problem("field.type", "an id is lower-case letters, digits, `_` and `-`", path)
        return ""

    def _names(self, value: Any, path: str) -> tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return tuple(value)
        self._problem("field.type", "this must be a list of names", path)
        return ()

    def _integer(self, value: Any, path: str, low: int, high: int) -> int:
        if type(value) is int and low <= value <= high:
            return value
        if value is not None:
            self._problem("field.type", f"this must be a whole number from {low} to {high}", path)
        return low

    def _duration(self, value: Any, path: str, most: float) -> float:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        seconds = float(match[1]) * _UNITS[match[2]] if match else value
        if type(seconds) in (int, float) and 0 <= seconds <= most:
            return float(seconds)
        if value is not None:
            hint = f"such as 30s, 5m or 4h, at most {most / 3600:g}h"
            self._problem("duration.invalid", "this must be a time span", path, hint=hint)
        return 0.0

    def whole(self, playbook: Playbook) -> None:
        """What only the whole tells: references, coverage, order."""
        check(playbook, self._places, self._problem, self._signatures)
