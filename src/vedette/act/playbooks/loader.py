"""Reads playbooks from YAML. Every problem is collected, with its code and its place `path:line:col`.

What is checked before anything runs: names and types of fields; actions and their arguments; that every reference names
something that is there by then; that every drastic action is covered by an approval before it, and that what is
approved does not depend on anything that happens after it; that secrets are named, never written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vedette.act.actions import Signature
from vedette.act.connectors import SIGNATURES
from vedette.act.playbooks.caps import MOST
from vedette.act.playbooks.checks import check, near
from vedette.act.playbooks.conditions import parse_condition
from vedette.act.playbooks.fields import ID, Fields, Source
from vedette.act.playbooks.hooks import HookScheme
from vedette.act.playbooks.playbook import (
    ActionStep,
    ApprovalStep,
    Compensation,
    Escalation,
    IfStep,
    Input,
    InputType,
    OnFailure,
    ParallelStep,
    Playbook,
    PlaybookStep,
    Step,
    Trigger,
    TriggerType,
    WaitStep,
    WhileStep,
)
from vedette.act.playbooks.references import REFERENCE
from vedette.core.errors import DefinitionError, Problems
from vedette.core.execute import MAX_ATTEMPTS, Retry
from vedette.core.signal import Level

MAX_STEPS = 100
MAX_DEPTH = 6
MAX_BYTES = 256 * 1024
MAX_DEADLINE_S = 30 * 86_400
MAX_TIMEOUT_S = 3_600.0
MAX_ROUNDS = 100
MAX_BRANCHES = 20
MAX_NESTED = 4
"""Playbooks inside playbooks."""
MIN_EVERY_S = 60.0
"""Shortest interval of a schedule."""


_BOOK = {"id": True, "version": True, "title": True, "owner": True, "steps": True}
_BOOK |= dict.fromkeys("description inputs secrets on_error triggers caps".split(), False)
_STEPS: dict[str, dict[str, bool]] = {
    "action": {"action": True}
    | dict.fromkeys("arguments retry timeout on_failure on_error compensation".split(), False),
    "approval": {"title": True, "covers": True, "deadline": True}
    | dict.fromkeys("evidence on_denied escalate valid".split(), False),
    "if-condition": {"condition": True, "on_true": False, "on_false": False},
    "while-condition": {"condition": True, "steps": True, "limit": True, "delay": False},
    "parallel": {"branches": True},
    "wait": {"for": True},
    "playbook-action": {"playbook": True, "inputs": False},
}
"""Step type -> its own fields and whether each must be there."""


_FOUND = ("changed", "before")
"""Results of an action that its inverse may ask for: whether it changed anything, and what was there before."""


Library = Callable[[str], Playbook | None]
"""Id of a playbook -> it; None when there is none."""


def load_playbook(
    path: Path, signatures: Mapping[str, Signature] = SIGNATURES, *, above: tuple[str, ...] = ()
) -> Playbook:
    """Reads and checks a playbook file. Playbooks that it takes as steps are files beside it, named by their ids.

    Args:
        path: The file.
        signatures: Known actions.
        above: Ids of the playbooks that this one is read for.

    Raises:
        DefinitionError: `playbook.file.unreadable`; `documents.*`: no readable YAML.
        Problems: everything that is wrong with it.
    """
    from vedette.core.documents import load_yaml

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DefinitionError("playbook.file.unreadable", error.strerror or "cannot be read", at=str(path)) from error

    def beside(name: str) -> Playbook | None:
        if name in above or name == path.stem or len(above) >= MAX_NESTED:
            text = f"playbooks inside each other: {' > '.join([*above, path.stem, name])}"
            raise DefinitionError(
                "playbook.nested.endless", text, hint=f"at most {MAX_NESTED} deep, and none in itself"
            )
        file = path.with_name(f"{name}.yaml")
        return load_playbook(file, signatures, above=(*above, path.stem)) if file.is_file() else None

    return read_playbook(load_yaml(raw, path=str(path)), signatures, library=beside)


def read_playbook(
    source: Source, signatures: Mapping[str, Signature] = SIGNATURES, *, library: Library = lambda _name: None
) -> Playbook:
    """Checks a parsed document.

    Raises:
        Problems: everything that is wrong with it.
    """
    reader = _Reader(source, signatures, library)
    playbook = reader.playbook()
    if playbook and not reader.problems:
        reader.whole(playbook)
    if reader.problems or playbook is None:
        raise Problems(
            sorted(reader.problems, key=lambda each: (each.span.line, each.span.col) if each.span else (0, 0))
        )
    return playbook


_SECRET = re.compile(r"[a-z][a-z0-9_-]{0,40}")


class _Reader(Fields):
    def __init__(self, source: Source, signatures: Mapping[str, Signature], library: Library) -> None:
        super().__init__(source)
        self._library = library
        self._signatures = signatures
        self._places: dict[str, str] = {}

    def playbook(self) -> Playbook | None:
        data = self.object(self._source.data, "$", _BOOK)
        if data is None:
            return None
        inputs = data.get("inputs", {})
        if not isinstance(inputs, dict):
            self.problem("field.type", "`inputs` must be an object", "$.inputs")
            inputs = {}
        names = self.names(data.get("secrets", []), "$.secrets")
        return Playbook(
            id=self.id(data.get("id"), "$.id"),
            version=self.integer(data.get("version"), "$.version", 1, 2**31),
            title=self.text(data.get("title"), "$.title"),
            owner=self.text(data.get("owner"), "$.owner"),
            description=self.text(data.get("description", "-"), "$.description").removeprefix("-"),
            inputs={str(name): self._input(str(name), spec) for name, spec in inputs.items()},
            secrets=names,
            steps=self._steps(data.get("steps", []), "$.steps", 0),
            on_error=self._steps(data.get("on_error", []), "$.on_error", 1),
            triggers=self._triggers(data.get("triggers", [])),
            caps=self._caps(data.get("caps", {})),
        )

    def _triggers(self, data: Any) -> tuple[Trigger, ...]:
        if not isinstance(data, list):
            self.problem("field.type", "`triggers` must be a list", "$.triggers")
            return ()
        return tuple(self._trigger(each, f"$.triggers[{number}]") for number, each in enumerate(data))

    def _trigger(self, data: Any, path: str) -> Trigger:
        kind = data.get("type") if isinstance(data, dict) else None
        fields = {"alert": "rules levels", "case": "levels", "schedule": "every", "webhook": "scheme secret"}
        if not isinstance(kind, str) or kind not in fields:
            hint = f"one of {', '.join(TriggerType)}; by hand works always"
            self.problem("trigger.type", f"unknown trigger `{kind!s:.40}`", path, hint=hint)
            return Trigger(type=TriggerType.WEBHOOK)
        spec = self.object(data, path, {"type": True, **dict.fromkeys(fields[kind].split(), kind == "schedule")}) or {}
        every = self.duration(spec.get("every", 0), f"{path}.every", MAX_DEADLINE_S)
        if kind == "schedule" and every < MIN_EVERY_S:
            self.problem("duration.invalid", f"a schedule has at least {MIN_EVERY_S:g}s", f"{path}.every")
        levels = self.names(spec.get("levels", []), f"{path}.levels")
        for level in levels:
            if level not in list(Level):
                hint = f"one of {', '.join(Level)}"
                self.problem("field.type", f"no level `{level!s:.40}`", f"{path}.levels", hint=hint)
        rules = self.names(spec.get("rules", []), f"{path}.rules")
        scheme, secret = self._signed(spec, path)
        when = TriggerType(kind)
        return Trigger(type=when, rules=rules, levels=levels, every_s=every, scheme=scheme, secret=secret)

    def _signed(self, spec: dict[str, Any], path: str) -> tuple[str, str]:
        """How a webhook of another system proves itself: both or nothing."""
        scheme, secret = (
            self.text(spec.get("scheme"), f"{path}.scheme"),
            self.text(spec.get("secret"), f"{path}.secret"),
        )
        if scheme and scheme not in list(HookScheme):
            hint = f"one of {', '.join(HookScheme)}"
            self.problem("trigger.scheme", f"unknown scheme `{scheme:.40}`", f"{path}.scheme", hint=hint)
        if bool(scheme) != bool(secret):
            hint = "`scheme` and `secret`, or neither"
            self.problem("trigger.scheme", "a signed webhook needs both", path, hint=hint)
        if secret and not _SECRET.fullmatch(secret):
            hint = "lower case, such as github_hook"
            self.problem("trigger.secret", "not the name of a secret", f"{path}.secret", hint=hint)
        return scheme, secret

    def _caps(self, data: Any) -> dict[str, int]:
        kinds = sorted({kind for each in self._signatures.values() for kind in each.touches})
        spec = self.object(data, "$.caps", dict.fromkeys(kinds, False)) or {}
        return {kind: self.integer(value, f"$.caps.{kind}", 0, MOST) for kind, value in spec.items()}

    def _input(self, name: str, data: Any) -> Input:
        path = f"$.inputs.{name}"
        known = dict.fromkeys(("type", "from", "required", "description"), False)
        spec = self.object(data, path, known) or {}
        kind = spec.get("type", "text")
        if kind not in list(InputType):
            self.problem("field.type", f"an input is one of {', '.join(InputType)}", f"{path}.type")
            kind = "text"
        required = spec.get("required", True)
        if not isinstance(required, bool):
            self.problem("field.type", "`required` must be true or false", f"{path}.required")
            required = True
        source = self.text(spec.get("from", "-"), f"{path}.from").removeprefix("-")
        if source and not (REFERENCE.fullmatch(source) and source.startswith(("${alert.", "${trigger."))):
            hint = "such as ${alert.entities.key}"
            self.problem("reference.unknown", "an input comes from the alert", f"{path}.from", hint=hint)
        return Input(type=InputType(kind), source=source, required=required)

    def _steps(self, data: Any, path: str, depth: int) -> tuple[Step, ...]:
        if not isinstance(data, list) or depth > MAX_DEPTH:
            self.problem("field.type", f"steps are a list, nested at most {MAX_DEPTH} deep", path)
            return ()
        found = [self._step(each, f"{path}[{number}]", depth) for number, each in enumerate(data)]
        return tuple(step for step in found if step is not None)

    def _step(self, data: Any, path: str, depth: int) -> Step | None:
        kind = data.get("type") if isinstance(data, dict) else None
        if not isinstance(kind, str) or kind not in _STEPS:
            hint = f"one of {', '.join(_STEPS)}"
            self.problem("step.type", f"unknown step type `{kind!s:.40}`", path, hint=hint)
            return None
        fields = self.object(data, path, {"id": True, "type": True, **_STEPS[kind]})
        if fields is None:
            return None
        name = self.id(fields.get("id"), f"{path}.id")
        if name in self._places:
            place = self._source.span(self._places[name])
            self.problem("step.duplicate", f"step `{name}` is there twice", f"{path}.id", hint=f"first at {place}")
        self._places[name] = path
        if len(self._places) == MAX_STEPS + 1:
            self.problem("step.count", f"more than {MAX_STEPS} steps", path)
        return self._read[kind](name, fields, path, depth)

    @property
    def _read(self) -> Mapping[str, Callable[[str, dict[str, Any], str, int], Step]]:
        return {
            "action": self._action,
            "approval": self._approval,
            "if-condition": self._if,
            "while-condition": self._while,
            "parallel": self._parallel,
            "wait": self._wait,
            "playbook-action": self._nested,
        }

    def _if(self, name: str, fields: dict[str, Any], path: str, depth: int) -> IfStep:
        return IfStep(
            id=name,
            condition=self._condition(fields.get("condition"), f"{path}.condition"),
            on_true=self._steps(fields.get("on_true", []), f"{path}.on_true", depth + 1),
            on_false=self._steps(fields.get("on_false", []), f"{path}.on_false", depth + 1),
        )

    def _while(self, name: str, fields: dict[str, Any], path: str, depth: int) -> WhileStep:
        return WhileStep(
            id=name,
            condition=self._condition(fields.get("condition"), f"{path}.condition"),
            steps=self._steps(fields.get("steps", []), f"{path}.steps", depth + 1),
            limit=self.integer(fields.get("limit"), f"{path}.limit", 1, MAX_ROUNDS),
            delay_s=self.duration(fields.get("delay", 0), f"{path}.delay", MAX_DEADLINE_S),
        )

    def _wait(self, name: str, fields: dict[str, Any], path: str, _depth: int) -> WaitStep:
        return WaitStep(id=name, delay_s=self.duration(fields.get("for"), f"{path}.for", MAX_DEADLINE_S))

    def _approval(self, name: str, fields: dict[str, Any], path: str, depth: int) -> ApprovalStep:
        deadline = self.duration(fields.get("deadline"), f"{path}.deadline", MAX_DEADLINE_S)
        escalate = None
        if "escalate" in fields:
            below = f"{path}.escalate"
            spec = self.object(fields["escalate"], below, {"after": True, "to": True}) or {}
            after = self.duration(spec.get("after", 0), f"{below}.after", MAX_DEADLINE_S)
            escalate = Escalation(after_s=after, to=self.text(spec.get("to"), f"{below}.to"))
            if deadline and after >= deadline:
                self.problem("escalate.late", "it would be told only when the deadline is over", f"{below}.after")
        return ApprovalStep(
            id=name,
            title=self.text(fields.get("title"), f"{path}.title"),
            covers=self.names(fields.get("covers", []), f"{path}.covers"),
            evidence=self.names(fields.get("evidence", []), f"{path}.evidence"),
            deadline_s=deadline,
            on_denied=self._steps(fields.get("on_denied", []), f"{path}.on_denied", depth + 1),
            escalate=escalate,
            valid_s=self.duration(fields.get("valid", 0), f"{path}.valid", MAX_DEADLINE_S),
        )

    def _parallel(self, name: str, fields: dict[str, Any], path: str, depth: int) -> ParallelStep:
        data, below = fields.get("branches"), f"{path}.branches"
        if not isinstance(data, list) or not 2 <= len(data) <= MAX_BRANCHES:  # noqa: PLR2004 - one is no parallel
            self.problem("field.type", f"`branches` are 2 to {MAX_BRANCHES} lists of steps", below)
            data = []
        found = [self._steps(each, f"{below}[{number}]", depth + 1) for number, each in enumerate(data)]
        return ParallelStep(id=name, branches=tuple(found))

    def _nested(self, name: str, fields: dict[str, Any], path: str, _depth: int) -> PlaybookStep:
        called = self.text(fields.get("playbook"), f"{path}.playbook")
        given = fields.get("inputs", {})
        if not isinstance(given, dict):
            self.problem("field.type", "`inputs` must be an object", f"{path}.inputs")
            given = {}
        found = self._find(called, f"{path}.playbook")
        if found is None:
            return PlaybookStep(id=name, playbook=called, version=0)
        for each in given:
            if each not in found.inputs:
                hint = near(str(each), found.inputs)
                self.problem("input.unknown", f"`{called}` has no input `{each}`", f"{path}.inputs.{each}", hint=hint)
        for each, spec in found.inputs.items():
            if spec.required and not spec.source and each not in given:
                self.problem("input.missing", f"`{called}` needs `{each}`", path)
        return PlaybookStep(
            id=name,
            playbook=called,
            version=found.version,
            given=given,
            inputs=found.inputs,
            secrets=found.secrets,
            owner=found.owner,
            steps=found.steps,
            on_error=found.on_error,
        )

    def _find(self, called: str, path: str) -> Playbook | None:
        found = None
        try:
            found = self._library(called) if ID.fullmatch(called) else None
        except Problems as error:
            text = f"`{called}` has {len(error.problems)} problem(s), the first: {error.problems[0]}"
            self.problem("nested.invalid", text, path)
            return None
        except DefinitionError as error:
            self.problem(error.code.removeprefix("playbook."), error.message, path, hint=error.hint)
            return None
        if found is None:
            hint = "it is a file beside this one, named by its id"
            self.problem("nested.unknown", f"no playbook `{called:.64}`", path, hint=hint)
        return found

    def _action(self, name: str, fields: dict[str, Any], path: str, depth: int) -> ActionStep:
        action, arguments = self._call(fields, path)
        failure = fields.get("on_failure", "stop")
        if failure not in list(OnFailure):
            self.problem("field.type", f"`on_failure` is one of {', '.join(OnFailure)}", f"{path}.on_failure")
            failure = "stop"
        undo = None
        if fields.get("compensation") == "undo":
            undo = self._inverse(name, action, arguments, path)
        elif "compensation" in fields:
            below = f"{path}.compensation"
            data = self.object(fields["compensation"], below, {"action": True, "arguments": False})
            if data is not None:
                undone, given = self._call(data, below)
                undo = Compensation(action=undone, arguments=given)
        return ActionStep(
            id=name,
            action=action,
            arguments=arguments,
            retry=self._retry(fields.get("retry", {}), f"{path}.retry"),
            timeout_s=self.duration(fields.get("timeout", 60), f"{path}.timeout", MAX_TIMEOUT_S),
            on_failure=OnFailure(failure),
            compensation=undo,
            drastic=action in self._signatures and self._signatures[action].drastic,
            on_error=self._steps(fields.get("on_error", []), f"{path}.on_error", depth + 1),
        )

    def _inverse(self, name: str, action: str, arguments: Mapping[str, Any], path: str) -> Compensation | None:
        """What takes an action back: its declared inverse with the arguments they share, and what the step found."""
        signature = self._signatures.get(action)
        inverse = self._signatures.get(signature.undo) if signature else None
        if inverse is None:
            self.problem("undo.none", f"`{action}` cannot be taken back", f"{path}.compensation")
            return None
        given = {key: value for key, value in arguments.items() if key in inverse.arguments}
        own = {key: f"${{steps.{name}.{key}}}" for key in inverse.arguments if key in _FOUND}
        return Compensation(action=inverse.name, arguments=given | own)

    def _call(self, fields: Mapping[str, Any], path: str) -> tuple[str, dict[str, Any]]:
        action = self.text(fields.get("action"), f"{path}.action")
        given = fields.get("arguments", {})
        if not isinstance(given, dict):
            self.problem("field.type", "`arguments` must be an object", f"{path}.arguments")
            given = {}
        signature = self._signatures.get(action)
        if signature is None:
            self.problem(
                "action.unknown", f"unknown action `{action}`", f"{path}.action", hint=near(action, self._signatures)
            )
            return action, given
        for name in given:
            if name not in signature.arguments:
                hint = near(str(name), signature.arguments)
                self.problem("argument.unknown", f"`{action}` has no `{name}`", f"{path}.arguments.{name}", hint=hint)
        for name, spec in signature.arguments.items():
            where = f"{path}.arguments.{name}"
            value = given.get(name)
            if value is None:
                if spec.required:
                    self.problem("argument.missing", f"`{action}` needs `{name}`", path)
            elif spec.secret and not (isinstance(value, str) and re.fullmatch(r"\$\{secrets\.[\w.-]+\}", value)):
                hint = "declare it under `secrets` and write ${secrets.NAME}"
                self.problem("secret.literal", f"`{name}` takes a secret's name, never a value", where, hint=hint)
            elif not (type(value) is spec.type or (isinstance(value, str) and REFERENCE.search(value))):
                self.problem("argument.type", f"`{name}` must be a {spec.type.__name__}", where)
        return action, given

    def _retry(self, data: Any, path: str) -> Retry:
        fields = self.object(data, path, dict.fromkeys(("attempts", "delay", "backoff", "max_delay"), False)) or {}
        backoff = fields.get("backoff", 2.0)
        if type(backoff) not in (int, float) or not 1 <= backoff <= 10:  # noqa: PLR2004 - said in the message
            self.problem("field.type", "`backoff` is a number from 1 to 10", f"{path}.backoff")
            backoff = 2.0
        return Retry(
            attempts=self.integer(fields.get("attempts", 1), f"{path}.attempts", 1, MAX_ATTEMPTS),
            delay_s=self.duration(fields.get("delay", 1), f"{path}.delay", MAX_TIMEOUT_S),
            backoff=float(backoff),
            max_delay_s=self.duration(fields.get("max_delay", 300), f"{path}.max_delay", MAX_DEADLINE_S),
        )

    def _condition(self, data: Any, path: str) -> Any:
        try:
            parse_condition(data)
        except DefinitionError as error:
            self.problem("condition.invalid", error.message, path)
        return data

    def whole(self, playbook: Playbook) -> None:
        """What only the whole tells: references, coverage, order."""
        check(playbook, self._places, self.problem, self._signatures)
