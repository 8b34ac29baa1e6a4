"""Takes the webhooks of other systems: finds the playbook, proves the sender, and starts a run once."""

from __future__ import annotations

import msgspec

from vedette.act.playbooks.hooks import HookScheme, Pairs, delivery_of, refused
from vedette.act.playbooks.playbook import Playbook, Trigger, TriggerType
from vedette.act.playbooks.responder import Occasion
from vedette.act.playbooks.triggers import REQUESTER
from vedette.core.clock import MICROS
from vedette.core.errors import ConflictError, DataError, VedetteError
from vedette.prove.dlp import refuse_pans
from vedette.run.platform import Platform


def take_hook(platform: Platform, tenant: str, playbook: str, body: bytes, headers: Pairs) -> str:
    """The run that a delivery started; empty when it was started before.

    The secret is named by the trigger, and each tenant has its own: `<secret>.<tenant>`.

    Raises:
        DeniedError: `playbook.hook.refused`: no such hook, or no proof that its sender sent this.
        DataError: `playbook.hook.body`: it is proven, and no JSON object; `request.pan_refused`.
        Problems: inputs that the delivery does not fill.
    """
    book = platform.playbooks.get(playbook)
    trigger = _signed(book) if book else None
    if book is None or trigger is None or tenant not in platform.access.tenants():
        raise refused()
    try:
        secret = platform.secrets.resolve(f"{trigger.secret}.{tenant}").reveal()
        now = platform.clock.now() // MICROS
        delivery = delivery_of(body, headers, scheme=HookScheme(trigger.scheme), secret=secret, now=now)
    except VedetteError as error:
        # People see it beside the runs; the sender is told nothing that helps to guess.
        platform.meters.failure(f"trigger.{book.id}", error.code)
        raise refused() from None
    return _start(platform, tenant, book, f"webhook:{trigger.scheme}:{delivery}", _read(body))


def _signed(book: Playbook) -> Trigger | None:
    return next((each for each in book.triggers if each.type is TriggerType.WEBHOOK and each.scheme), None)


def _read(body: bytes) -> dict[str, object]:
    try:
        data = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        raise DataError("playbook.hook.body", "the body is no JSON object") from None
    refuse_pans(data)
    return data


def _start(platform: Platform, tenant: str, book: Playbook, key: str, data: dict[str, object]) -> str:
    if platform.responder.fired(tenant, book.id, key):
        return ""
    occasion = Occasion(key=key, trigger={"type": "webhook", "data": data})
    try:
        return platform.responder.launch(tenant, book, occasion, requester=REQUESTER, once=key).id
    except ConflictError as error:
        if error.code == "playbook.trigger.taken":
            return ""
        raise
