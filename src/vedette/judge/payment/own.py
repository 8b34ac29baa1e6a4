"""Kept rules of merchants, version by version: what each shipped, who did it and why, and what stands now.

A version is a merchant's rules and lists together. Nothing is overwritten: taking rules back ships an earlier version
again, or none, so a decision of then can be rebuilt.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vedette.core.clock import Clock
from vedette.core.db import LONG, Connection, Database, Migration, create, insert_new, sa
from vedette.core.errors import ConflictError, DataError, NotFoundError
from vedette.judge.payment.merchants import MAX_MERCHANTS, join, read_own
from vedette.judge.payment.rules import PaymentRules

MAX_SHOWN = 200
MAX_TEXT = 256 * 1024
"""Longest text of a merchant's rules, characters."""


class OwnRules(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a merchant's rules."""

    merchant: str
    number: int
    """From 1, without gaps."""
    rules: str
    """Text, as it was shipped; empty: no rules from then on."""
    lists: list[dict[str, Any]]
    """`{alias, item_type, items}` of each."""
    operator: str
    reason: str
    time: int
    """When it was shipped, microseconds UTC."""

    def read(self) -> PaymentRules:
        """The rules, ready to be joined with the platform's."""
        return read_own(self.merchant, self.rules, self.lists)


_METADATA = sa.MetaData()
_OWN = sa.Table(
    "merchant_rules",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("merchant", sa.Text, primary_key=True),
    sa.Column("number", LONG, primary_key=True),
    sa.Column("rules", sa.Text, nullable=False),
    sa.Column("lists", sa.LargeBinary, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time", LONG, nullable=False),
    sqlite_strict=True,
)
_JOINED = sa.Table(
    "merchant_rules_joined",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("merchant", sa.Text, primary_key=True),
    sa.Column("number", LONG, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sqlite_strict=True,
)
MIGRATIONS = (Migration(1, "rules of merchants", create(_METADATA)),)


class MerchantRules:
    """The rules of all merchants, each tenant's its own.

    Args:
        database: state.db, or its PostgreSQL schema.
        clock: Times of versions.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._ready: dict[tuple[str, str, int], PaymentRules] = {}
        database.migrate("merchant_rules", MIGRATIONS)

    def ship(
        self,
        tenant: str,
        merchant: str,
        rules: str,
        lists: list[dict[str, Any]],
        *,
        operator: str,
        reason: str = "",
        after: int | None = None,
    ) -> OwnRules:
        """Keeps a version, which is what stands from now on.

        Args:
            tenant: Whose merchant.
            merchant: Whose rules.
            rules: Their text; empty takes all of them back.
            lists: `{alias, item_type, items}` of each.
            operator: Id of who does it.
            reason: Why.
            after: Number of the version that its author saw, 0 for none; None does not look.

        Raises:
            Problems, DefinitionError: What `read_own` refuses.
            DataError: `payment.merchant.text`, `payment.merchant.full`.
            ConflictError: `payment.merchant.changed_since`: somebody shipped another version meanwhile.
        """
        if len(rules) > MAX_TEXT:
            raise DataError("payment.merchant.text", f"rules have at most {MAX_TEXT} characters", at="$.rules")
        read_own(merchant, rules, lists)
        with self._database.begin() as connection:
            newest = _newest(connection, tenant, merchant)
            if after is not None and after != newest:
                hint = "look at it, and ship after it"
                raise ConflictError("payment.merchant.changed_since", f"version {newest} stands now", hint=hint)
            if not newest and _merchants(connection, tenant) >= MAX_MERCHANTS:
                raise DataError("payment.merchant.full", f"{MAX_MERCHANTS} merchants have rules of their own already")
            made = OwnRules(
                merchant=merchant,
                number=newest + 1,
                rules=rules,
                lists=lists,
                operator=operator,
                reason=reason,
                time=self._clock.now(),
            )
            values = {**msgspec.structs.asdict(made), "lists": msgspec.json.encode(lists)}
            connection.execute(_OWN.insert().values(tenant=tenant, **values))
        return made

    def version(self, tenant: str, merchant: str, number: int) -> OwnRules:
        """One version.

        Raises:
            NotFoundError: `payment.merchant.version_unknown`.
        """
        query = _OWN.select().where(_OWN.c.tenant == tenant, _OWN.c.merchant == merchant, _OWN.c.number == number)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError("payment.merchant.version_unknown", "no such version of these rules", at=str(number))
        return _to_own(row)

    def standing(self, tenant: str, merchant: str) -> OwnRules | None:
        """What stands now; None where nothing was ever shipped."""
        return next(iter(self.history(tenant, merchant, 1)), None)

    def history(self, tenant: str, merchant: str, limit: int = MAX_SHOWN) -> list[OwnRules]:
        """Versions, newest first."""
        query = _OWN.select().where(_OWN.c.tenant == tenant, _OWN.c.merchant == merchant)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_OWN.c.number.desc()).limit(min(limit, MAX_SHOWN)))
            return [_to_own(row) for row in rows]

    def merchants(self, tenant: str) -> list[str]:
        """Those that ever shipped rules, in order."""
        return [merchant for merchant, _ in self._standing(tenant)]

    def state(self, tenant: str) -> int:
        """How many versions there are: while it stays, so do the rules."""
        query = sa.select(sa.func.count()).where(_OWN.c.tenant == tenant)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    # Beside the platform's rules

    def beside(self, tenant: str, platform: PaymentRules) -> PaymentRules:
        """The platform's rules with the set of each merchant that has rules of its own."""
        joined: dict[str, PaymentRules] = {}
        made = []
        for merchant, number in self._standing(tenant):
            own = self._read(tenant, merchant, number)
            if own.rules:
                found = joined[merchant] = join(platform, own)
                named = {"tenant": tenant, "version": found.version, "merchant": merchant}
                made.append({**named, "number": number, "platform": platform.version})
        # What a set was joined of is kept before anything is decided by it.
        with self._database.begin() as connection:
            for values in made:
                insert_new(connection, _JOINED, **values)
        return platform.with_merchants(joined) if joined else platform

    def joined(self, tenant: str, version: str, merchant: str) -> tuple[PaymentRules, str] | None:
        """A merchant's rules in a joined set, and the version of the platform's; None for a set that is not joined."""
        query = _JOINED.select().where(
            _JOINED.c.tenant == tenant, _JOINED.c.version == version, _JOINED.c.merchant == merchant
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (self._read(tenant, merchant, row.number), row.platform)

    def _read(self, tenant: str, merchant: str, number: int) -> PaymentRules:
        key = tenant, merchant, number
        found = self._ready.get(key)
        if found is None:
            found = self.version(*key).read()
            if len(self._ready) >= 2 * MAX_MERCHANTS:
                self._ready.clear()
            self._ready[key] = found
        return found

    def _standing(self, tenant: str) -> list[tuple[str, int]]:
        query = (
            sa.select(_OWN.c.merchant, sa.func.max(_OWN.c.number))
            .where(_OWN.c.tenant == tenant)
            .group_by(_OWN.c.merchant)
            .order_by(_OWN.c.merchant)
        )
        with self._database.read() as connection:
            return [(merchant, number) for merchant, number in connection.execute(query)]


def _newest(connection: Connection, tenant: str, merchant: str) -> int:
    query = sa.select(sa.func.max(_OWN.c.number)).where(_OWN.c.tenant == tenant, _OWN.c.merchant == merchant)
    return connection.execute(query).scalar() or 0


def _merchants(connection: Connection, tenant: str) -> int:
    query = sa.select(sa.func.count(sa.distinct(_OWN.c.merchant))).where(_OWN.c.tenant == tenant)
    return int(connection.execute(query).scalar_one())


def _to_own(row: Any) -> OwnRules:
    values = {name: getattr(row, name) for name in OwnRules.__struct_fields__}
    return OwnRules(**{**values, "lists": msgspec.json.decode(row.lists)})
