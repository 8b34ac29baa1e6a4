"""The inputs of a run: where they come from, and of what type they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vedette.act.grouping import Alert
from vedette.act.playbooks.playbook import Input, InputType
from vedette.act.playbooks.references import fill
from vedette.core.errors import DataError, Problems, VedetteError


def alert_scope(alert: Alert) -> dict[str, Any]:
    """What `${alert...}` reads. `entities.<type>` is the first entity of that type."""
    entities: dict[str, str] = {}
    for entity in alert.entities:
        entities.setdefault(entity.type, entity.id)
    return {
        "id": alert.id,
        "rule_id": alert.rule_id,
        "title": alert.title,
        "level": str(alert.level),
        "severity_id": alert.severity_id,
        "source": alert.source,
        "signal_count": alert.signal_count,
        "first_time": alert.first_time,
        "last_time": alert.last_time,
        "entity": {"type": alert.entity.type, "id": alert.entity.id} if alert.entity else {},
        "entities": entities,
    }


def bind_inputs(inputs: Mapping[str, Input], scope: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a run: given by hand, else taken from the alert or from what started it.

    Args:
        inputs: What the playbook declares.
        scope: `alert` and `trigger`.
        given: By hand.

    Raises:
        Problems: `playbook.input.unknown`, `playbook.input.missing`, `playbook.input.type`, all of them at once.
    """
    problems: list[VedetteError] = [
        DataError("playbook.input.unknown", f"the playbook has no input `{name}`", at=name)
        for name in given
        if name not in inputs
    ]
    bound: dict[str, Any] = {}
    for name, spec in inputs.items():
        try:
            value = given[name] if name in given else fill(spec.source, scope) if spec.source else None
        except DataError:
            value = None
        if value is None:
            if spec.required:
                hint = f"give it: --input {name}=..."
                problems.append(DataError("playbook.input.missing", f"input `{name}` is missing", hint=hint, at=name))
            continue
        try:
            bound[name] = _convert(name, spec, value)
        except DataError as error:
            problems.append(error)
    if problems:
        raise Problems(problems)
    return bound


_KINDS: dict[InputType, type] = {
    InputType.TEXT: str,
    InputType.INTEGER: int,
    InputType.NUMBER: float,
    InputType.BOOLEAN: bool,
    InputType.LIST: list,
}


def _convert(name: str, spec: Input, value: Any) -> Any:
    kind = _KINDS[spec.type]
    if spec.type is InputType.NUMBER and type(value) is int:
        return float(value)
    if spec.type is InputType.LIST and type(value) is list and not all(isinstance(each, str) for each in value):
        raise DataError("playbook.input.type", f"input `{name}` must be a list of texts", at=name)
    if type(value) is kind and value != "":
        return value
    if spec.type is InputType.LIST and isinstance(value, str) and value:
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, str) and spec.type is not InputType.TEXT:
        try:
            return msgspec.json.decode(value.encode(), type=kind)
        except msgspec.MsgspecError:
            pass
    raise DataError("playbook.input.type", f"input `{name}` must be a {spec.type}", at=name)
