"""Actors of ATT&CK: what each is known to do, whether a rule would tell of it, and our alerts and indicators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from vedette.core.clock import DAY
from vedette.core.errors import NotFoundError
from vedette.judge.shipments import NOTHING
from vedette.judge.sigma.load import RuleSet
from vedette.run.rules.coverage import TESTS, ActorRow, Coverage, State, actor_rows, make_coverage
from vedette.run.rules.rule_tests import Tested
from vedette.run.rules.trend import Trend
from vedette.sense.intel.asked import Asked
from vedette.sense.intel.attack import Attack, Group
from vedette.sense.intel.indicator import Tlp
from vedette.sense.intel.library import Library
from vedette.sense.intel.library_tables import Kept

if TYPE_CHECKING:
    from vedette.run.platform import Platform

WITHIN = DAY
"""A source arrives when it sent something in this time."""
MAX_INDICATORS = 100
"""Most indicators of an actor that are listed."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """How we stand against an actor."""

    id: str
    """`G0016`."""
    name: str
    aliases: tuple[str, ...]
    attack: str
    """The version of ATT&CK."""
    covered: int
    """Techniques of which a rule would tell today."""
    techniques: tuple[ActorRow, ...]
    indicators: tuple[Kept, ...]
    """Those that carry the actor's name, at most `MAX_INDICATORS`."""


def coverage_of(platform: Platform, tenant: str, attack: Attack) -> Coverage:
    """The coverage of the rules that run, by the data that arrives and their last tests."""
    since = platform.clock.now() - WITHIN
    held = Trend(platform.state).of(tenant, TESTS)
    return make_coverage(
        RuleSet(tuple(platform.rules.values()), (), tuple(platform.correlations.values())),
        attack,
        arriving={name for name, one in platform.quality.arrivals(tenant).items() if one.last >= since},
        tested=msgspec.convert(held[-1][1]["tests"], list[Tested]) if held else [],
        degraded=platform.quality.degraded(tenant),
        off={name: str(one.stage) for name, one in platform.edition.standings.items() if one.live == NOTHING},
    )


def find_actor(attack: Attack, name: str) -> Group:
    """A group by id, name or alias.

    Raises:
        NotFoundError: `intel.actor.unknown`.
    """
    group = attack.group(name)
    if group is None:
        raise NotFoundError("intel.actor.unknown", f"ATT&CK {attack.version} knows no group `{name[:80]}`")
    return group


def find_actors(attack: Attack, text: str = "", technique: str = "") -> list[Group]:
    """Groups by name, whose id, name or alias holds a text in any case, and that use a technique."""
    wanted, named = text.strip().casefold(), attack.current(technique) if technique else ""
    found = [
        one
        for one in attack.groups.values()
        if any(wanted in each.casefold() for each in (one.id, one.name, *one.aliases))
        and (not named or any(attack.alike(named, each) for each in one.techniques))
    ]
    return sorted(found, key=lambda one: (one.name.casefold(), one.id))


def make_profile(
    attack: Attack,
    group: Group,
    coverage: Coverage,
    *,
    hits: Callable[[str], int],
    library: Library,
    tenant: str,
    within: Tlp = Tlp.RED,
) -> Profile:
    """A group's techniques with our coverage and alerts of each, and its indicators.

    Args:
        attack: Whose group it is.
        group: The actor.
        coverage: Made with the same ATT&CK.
        hits: Rule id -> its alerts.
        library: Whose indicators; they name their actor by a label `actor:NAME`.
        tenant: Of the library.
        within: What may be shown.
    """
    names = {attack.current(name) for name in group.techniques}
    rules = {rule for cell in coverage.cells if cell.id in names for rule in (*cell.rules, *cell.lost)}
    rows = actor_rows(coverage, attack, group, {rule: hits(rule) for rule in rules})
    known = library.indicators(tenant, Asked(label=f"actor:{group.name}", within=within), limit=MAX_INDICATORS)
    return Profile(
        id=group.id,
        name=group.name,
        aliases=group.aliases,
        attack=attack.version,
        covered=sum(row.state is State.COVERED for row in rows),
        techniques=tuple(rows),
        indicators=tuple(known),
    )
