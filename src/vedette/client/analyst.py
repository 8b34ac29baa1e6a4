"""Asks a service for what an analyst asks: rows of questions as frames, steps of cases, hunts; for notebooks."""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from vedette.client.plot import Plot, bars
from vedette.client.refusal import BAD_REQUEST, refusal
from vedette.core.errors import DefinitionError, TransientError

if TYPE_CHECKING:
    import pyarrow as pa

TIMEOUT_S = 30.0
MAX_ANSWER = 64 << 20
SHOWN = 20
"""Rows that a notebook shows of a frame."""


@dataclass(frozen=True)
class Frame:
    """Rows of an answer. A notebook shows it as a table."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    cut: bool = False
    """There were more than were given."""
    digest: str = ""
    """Of the rows: equal for the same ones."""
    tables: Mapping[str, int] = field(default_factory=dict)
    """Table -> the version that was read."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """The values of a column, None where a row has none."""
        return [row.get(column) for row in self.rows]

    def to_arrow(self) -> pa.Table:
        """As an Arrow table, from which other libraries make their own frames; `pip install vedette` brings it."""
        import pyarrow as pa

        return pa.table({name: self[name] for name in self.columns})

    def count(self, column: str) -> Frame:
        """How often each value of a column stands there, most often first."""
        counted: dict[Any, int] = {}
        for value in self[column]:
            key = value if isinstance(value, str | int | float | bool) else str(value)
            counted[key] = counted.get(key, 0) + 1
        ranked = sorted(counted.items(), key=lambda pair: (-pair[1], str(pair[0])))
        return Frame((column, "count"), [{column: value, "count": count} for value, count in ranked])

    def plot(self, x: str, y: str, *, title: str = "") -> Plot:
        """Bars of a column of numbers over another one; a notebook shows it as a picture."""
        return bars(
            [str(each) for each in self[x]], [float(each or 0) for each in self[y]], title=title or f"{y} by {x}"
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        lines = (
            "".join(f"<td>{escape(str(row.get(name, '')))}</td>" for name in self.columns) for row in self.rows[:SHOWN]
        )
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        more = " and more" if self.cut else ""
        return f"<table><tr>{head}</tr>{body}</table><p>{len(self.rows):,} rows{more}</p>"


class Analyst:
    """One service, asked by one person or program. Not for several threads at once.

    Args:
        url: Of the service, such as `https://vedette.example`.
        key: API key with `query:read`; `query:write` to keep steps, `cases:read` to list them, `events:read` for hosts.
        timeout_s: How long an answer is waited for.

    Raises:
        DefinitionError: `client.url.invalid`.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise DefinitionError("client.url.invalid", "not the address of a service", hint="https://host:port")
        self._parts, self._timeout_s = parts, timeout_s
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def ask(self, kind: str, text: str, **more: Any) -> Frame:
        """Asks one question: `sql`, `value`, `entity`, `graph` or `host`.

        Args:
            kind: What is asked.
            text: The SELECT, the value, `type:id`, or the host.
            more: `parameters`, `days`, `since`, `until`, `limit`, as `POST /v1/questions` takes them.

        Raises:
            DataError, DeniedError, PermanentError: The service refused; code and place are its own.
            TransientError: `client.service.unreachable`.
        """
        return _frame(self._send("POST", "/v1/questions", {"kind": kind, "text": text, **more}))

    def sql(self, select: str, **parameters: Any) -> Frame:
        """Rows of one SELECT; `$name` in it is bound to the parameter of that name. Raises as `ask`."""
        return self.ask("sql", select, parameters=parameters)

    def search(self, name: str, **parameters: Any) -> Frame:
        """Asks a saved search with these values. Raises as `ask`."""
        return _frame(self._send("POST", f"/v1/searches/{quote(name, safe='')}/runs", {"parameters": parameters}))

    def processes(self, host: str, since: str = "", until: str = "") -> Mapping[str, Any]:
        """The tree of a host's processes, as `GET /v1/hosts/{host}/processes` gives it. Raises as `ask`."""
        span = f"?since={quote(since)}&until={quote(until)}" if since or until else ""
        found: Mapping[str, Any] = self._send("GET", f"/v1/hosts/{quote(host, safe='')}/processes{span}")
        return found

    def keep(self, case: str, kind: str, text: str, **more: Any) -> Mapping[str, Any]:
        """Asks a question and keeps it in a case with its rows; gives the step. Raises as `ask`."""
        question = {"kind": kind, "text": text, **more}
        made: Mapping[str, Any] = self._send("POST", f"/v1/cases/{quote(case, safe='')}/steps", {"question": question})
        return made

    def steps(self, case: str) -> Sequence[Mapping[str, Any]]:
        """The steps of a case, oldest first. Raises as `ask`."""
        found: Sequence[Mapping[str, Any]] = self._send("GET", f"/v1/cases/{quote(case, safe='')}/steps")["data"]
        return found

    def again(self, case: str, step: str) -> tuple[Mapping[str, Any], Frame]:
        """Asks a step again: what came of it, and its rows. Raises as `ask`."""
        answer = self._send("POST", f"/v1/cases/{quote(case, safe='')}/steps/{quote(step, safe='')}/runs")
        return answer["again"], _frame(answer["answer"])

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=self._timeout_s)
        try:
            sent = None if body is None else msgspec.json.encode(body)
            connection.request(method, f"{parts.path.rstrip('/')}{path}", sent, self._headers)
            response = connection.getresponse()
            status, content = response.status, response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise TransientError("client.service.unreachable", "the service gave no answer") from error
        finally:
            connection.close()
        if status >= BAD_REQUEST:
            raise refusal(status, content)
        return msgspec.json.decode(content)


def _frame(answer: Mapping[str, Any]) -> Frame:
    return Frame(answer["columns"], answer["rows"], answer["cut"], answer["digest"], answer["tables"])
