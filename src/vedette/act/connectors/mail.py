"""E-mail over SMTP. A message that comes again has the same `Message-ID`, by which mail systems drop repeats.

A connection holds `host`, `port`, `from`, and where needed `user`, `password` and `tls`: `starttls` (the default),
`tls`, or `none` for a relay on the machine itself.
"""

from __future__ import annotations

import hashlib
import re
import smtplib
import socket
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from vedette.act.actions import ActionCall, ActionResult, Argument, Repeats, Signature
from vedette.act.connectors.connector import CONNECTION, TIMEOUT_S, Action, Reach, read_connection
from vedette.core.errors import DataError, DefinitionError, PermanentError, TransientError

MAX_RECIPIENTS = 50
_ADDRESS = re.compile(r"[^\s@<>,;:\"\\]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{1,250}")
_PASSING = 400, 500


class _Pinned(smtplib.SMTP):
    """Connects to the address that was checked, and greets by the name."""

    def __init__(self, host: str, address: str, port: int, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._context = context
        super().__init__(host, port, timeout=TIMEOUT_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = socket.create_connection((self._address, port), timeout)
        return self._context.wrap_socket(sock, server_hostname=host) if self._context else sock


def message_id(key: str, sender: str) -> str:
    """The identity of a message, from its idempotency key."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{sender.rpartition('@')[2]}>"


def _recipients(call: ActionCall) -> list[str]:
    found = [each.strip() for each in call.arguments["to"]]
    if not 0 < len(found) <= MAX_RECIPIENTS or not all(_ADDRESS.fullmatch(each) for each in found):
        raise DataError("action.mail.address", f"1 to {MAX_RECIPIENTS} plain addresses are needed")
    return found


def _send(call: ActionCall, reach: Reach) -> ActionResult:
    values = read_connection(reach, call.arguments["connection"], "host", "port", "from")
    to, mail = _recipients(call), EmailMessage()
    mail["From"], mail["To"] = values["from"], ", ".join(to)
    mail["Subject"] = " ".join(call.arguments["subject"].split())[:200]
    identity = message_id(call.key, values["from"])
    mail["Message-ID"] = identity
    mail["Date"] = format_datetime(datetime.fromtimestamp(reach.clock.now() / 1e6, UTC))
    mail["X-Vedette-Run"] = call.run_id
    mail.set_content(call.arguments["text"])
    try:
        _deliver(reach, values, mail, call.arguments["connection"])
    except smtplib.SMTPAuthenticationError:
        raise PermanentError("action.remote.denied", "the mail server knows no such user") from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _refused([code for code, _ in error.recipients.values()]) from None
    except smtplib.SMTPResponseException as error:
        raise _refused([error.smtp_code]) from None
    except (smtplib.SMTPException, OSError):
        raise TransientError("action.remote.unavailable", "the mail server did not take the message") from None
    return ActionResult({"message_id": identity, "recipients": len(to)})


def _refused(codes: list[int]) -> PermanentError | TransientError:
    low, high = _PASSING
    if any(low <= code < high for code in codes):
        return TransientError("action.remote.busy", "the mail server asks to come again")
    return PermanentError("action.remote.refused", "the mail server refused the message")


def _deliver(reach: Reach, values: dict[str, str], mail: EmailMessage, name: str) -> None:
    mode, port = values.get("tls", "starttls"), values["port"]
    if mode not in ("starttls", "tls", "none") or not port.isdigit():
        hint = "`tls` is starttls, tls or none; `port` is a number"
        raise DefinitionError("action.connection.invalid", f"`{name}` is no mail server", hint=hint)
    address = reach.egress.address(values["host"], int(port))
    context = ssl.create_default_context()
    with _Pinned(values["host"], address, int(port), context if mode == "tls" else None) as server:
        if mode == "starttls":
            server.starttls(context=context)
        if values.get("user"):
            server.login(values["user"], values.get("password", ""))
        server.send_message(mail)


def _look(call: ActionCall, _reach: Reach) -> dict[str, Any]:
    return {"to": _recipients(call), "subject": call.arguments["subject"]}


ACTIONS = (
    Action(
        Signature(
            "send_mail",
            "sends an e-mail",
            {"connection": CONNECTION, "to": Argument(list), "subject": Argument(str), "text": Argument(str)},
            touches={"recipient": "to"},
            scopes=("smtp:send",),
            repeats=Repeats.KEY,
        ),
        _send,
        _look,
    ),
)
