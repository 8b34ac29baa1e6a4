"""Saved searches: questions with a name, for their owner or for all, with values filled in when they are asked."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from vedette.core.db import Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, DefinitionError, NotFoundError
from vedette.run.investigation.questions import Kind, Question, Scalar, check
from vedette.run.parts import Parts

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_TITLE = 300
MAX_SEARCHES = 1_000
"""Most of a tenant."""
_METADATA = sa.MetaData()
_SEARCH = sa.Table(
    "saved_search",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("shared", sa.Integer, nullable=False),
    sa.Column("gone", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "saved searches", create(_METADATA)),)


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with a name."""

    name: str
    """Lower-case letters, digits, dashes; one of a tenant."""
    question: Question
    """Its parameters are what is filled in when nothing else is given."""
    title: str = ""
    owner: str = ""
    shared: bool = False
    """For all of the tenant; else for its owner alone."""


class Searches:
    """The saved searches of an installation.

    Args:
        parts: The installation.
    """

    def __init__(self, parts: Parts) -> None:
        self._state = parts.state
        parts.state.migrate("searches", MIGRATIONS)

    def save(self, tenant: str, search: Search) -> Search:
        """Keeps a search; its owner may keep another question under the name.

        Raises:
            DefinitionError: `searches.search.invalid`.
            DataError: `questions.question.invalid`, `searches.search.many`.
            ConflictError: `searches.name.taken`, by somebody else's.
        """
        if not NAME.fullmatch(search.name) or len(search.title) > MAX_TITLE or not search.owner:
            raise DefinitionError(
                "searches.search.invalid",
                "a search has a name, an owner and a question",
                hint=f"the name matches {NAME.pattern}",
            )
        check(search.question)
        mine = (_SEARCH.c.tenant == tenant) & (_SEARCH.c.name == search.name)
        row = {
            "owner": search.owner,
            "shared": int(search.shared),
            "gone": 0,
            "body": msgspec.json.encode(search).decode(),
        }
        with self._state.begin() as connection:
            count = sa.select(sa.func.count()).select_from(_SEARCH).where(_SEARCH.c.tenant == tenant)
            if connection.execute(count).scalar_one() >= MAX_SEARCHES:
                raise DataError("searches.search.many", f"there are {MAX_SEARCHES} searches")
            if not insert_new(connection, _SEARCH, tenant=tenant, name=search.name, **row):
                held = mine & ((_SEARCH.c.owner == search.owner) | (_SEARCH.c.gone == 1))
                if not connection.execute(_SEARCH.update().where(held).values(**row)).rowcount:
                    raise ConflictError("searches.name.taken", "there is a search of this name", at=search.name)
        return search

    def all(self, tenant: str, reader: str) -> list[Search]:
        """The searches that somebody may see, by name: their own, and those that are shared."""
        seen = (_SEARCH.c.owner == reader) | (_SEARCH.c.shared == 1)
        query = (
            sa.select(_SEARCH.c.body)
            .where(_SEARCH.c.tenant == tenant, seen, _SEARCH.c.gone == 0)
            .order_by(_SEARCH.c.name)
        )
        with self._state.read() as connection:
            return [msgspec.json.decode(body, type=Search) for body in connection.execute(query).scalars()]

    def get(self, tenant: str, name: str, reader: str) -> Search:
        """A search that somebody may see.

        Raises:
            NotFoundError: `searches.search.unknown`, also for another's own.
        """
        mine = (_SEARCH.c.tenant == tenant) & (_SEARCH.c.name == name)
        seen = (_SEARCH.c.owner == reader) | (_SEARCH.c.shared == 1)
        with self._state.read() as connection:
            body = connection.execute(sa.select(_SEARCH.c.body).where(mine, seen, _SEARCH.c.gone == 0)).scalar()
        if body is None:
            raise NotFoundError("searches.search.unknown", "no such search", at=name[:64])
        return msgspec.json.decode(body, type=Search)

    def delete(self, tenant: str, name: str, reader: str) -> None:
        """Forgets a search: somebody's own, or a shared one; again changes nothing.

        Raises:
            NotFoundError: `searches.search.unknown`.
        """
        mine = (_SEARCH.c.tenant == tenant) & (_SEARCH.c.name == name)
        seen = (_SEARCH.c.owner == reader) | (_SEARCH.c.shared == 1)
        with self._state.begin() as connection:
            if not connection.execute(_SEARCH.update().where(mine, seen).values(gone=1)).rowcount:
                raise NotFoundError("searches.search.unknown", "no such search", at=name[:64])


def filled(search: Search, given: Mapping[str, Scalar]) -> Question:
    """The question of a search with values: of SQL its parameters, of the others `text`; of all `days`.

    Raises:
        DataError: `searches.parameter.unknown`, `searches.parameter.invalid`.
    """
    question = search.question
    own = {"days", *(question.parameters if question.kind is Kind.SQL else {"text"})}
    if extra := sorted(given.keys() - own):
        hint = f"it takes {', '.join(sorted(own))}"
        raise DataError("searches.parameter.unknown", "the search takes no such value", at=extra[0][:64], hint=hint)
    values = dict(given)
    days, text = values.pop("days", question.days), values.pop("text", question.text)
    if not isinstance(days, int) or isinstance(days, bool) or not isinstance(text, str):
        raise DataError("searches.parameter.invalid", "`days` is a whole number, `text` is text")
    again = {"since": 0, "until": 0} if "days" in given else {}
    parameters = {**question.parameters, **values}
    return msgspec.structs.replace(question, days=days, text=text, parameters=parameters, **again)
