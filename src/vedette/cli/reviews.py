"""The review queue: list what has to be looked at, claim it, give a verdict, and see how far reviewers agree."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from vedette.act.reviewing.agreement import Agreement
from vedette.act.reviewing.nouns import Item, ItemState
from vedette.cli._response import AsJson, Config, Home, Opened, Tenant, line, show_json, span
from vedette.core.clock import DAY, to_iso
from vedette.core.money import Money
from vedette.core.render import printable

EXAMPLES = """Examples:

  vedette reviews list

  vedette reviews next --by ana

  vedette reviews judge rv_5f0c... --fence 1 --fraud --note "the card was new" --by ana

  vedette reviews judge rv_5f0c... --fence 1 --genuine --by ana

  vedette reviews take-back rv_5f0c... --why "the customer called: it was not them" --by bob

  vedette reviews agreement --days 30"""

By = Annotated[str, typer.Option("--by", help="Your name: who does it.")]
Review = Annotated[str, typer.Argument(metavar="REVIEW", help="Id of an item.")]
Fence = Annotated[int, typer.Option("--fence", min=0, help="Number of your claim, as `next` printed it.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    group = typer.Typer(name="reviews", no_args_is_help=True, help=__doc__, epilog=EXAMPLES)
    group.command("list", epilog=EXAMPLES)(list_reviews)
    group.command("next", epilog=EXAMPLES)(claim)
    group.command("show", epilog=EXAMPLES)(show)
    group.command("renew", epilog=EXAMPLES)(renew)
    group.command("release", epilog=EXAMPLES)(release)
    group.command("judge", epilog=EXAMPLES)(judge)
    group.command("take-back", epilog=EXAMPLES)(take_back)
    group.command("agreement", epilog=EXAMPLES)(agreement)
    app.add_typer(group)


def _caught_up(parts: Opened) -> None:
    """Takes what was decided since somebody last looked."""
    if parts.settings.log_folder.is_dir():
        while parts.review_intake.consume(parts.log):
            pass


def list_reviews(
    *,
    state: Annotated[ItemState, typer.Option(help="Which ones.")] = ItemState.OPEN,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List decisions to look at, the highest expected cost first."""
    with Opened(home, tenant, config) as parts:
        _caught_up(parts)
        found = parts.reviewing.find(parts.tenant, state=state, limit=limit)
        waiting, now = parts.reviewing.waiting(parts.tenant), parts.clock.now()
    if as_json:
        show_json({"data": found, "waiting": waiting})
        return
    columns = (
        Column("review", no_wrap=True, min_width=29),
        "expected cost",
        "at stake",
        "score",
        "eyes",
        "about",
        "age",
    )
    table = Table(*columns, box=None, pad_edge=False)
    for item in found:
        cost, stake = (_money(each, waiting.currency) for each in (item.cost_minor, item.exposure_minor))
        score = "-" if item.about.score is None else f"{item.about.score:.3f}"
        eyes = f"{item.given}/{item.eyes}" + (" disputed" if item.disputed else "")
        about = f"{item.about.source} {item.about.event_id}"
        table.add_row(item.id, cost, stake, score, eyes, escape(printable(about)), span(item.age(now)))
    Console().print(table if found else "nothing waits")
    line(
        f"{waiting.open} open, {waiting.held} claimed, {waiting.disputed} disputed, {waiting.overdue} overdue, "
        f"expected cost {_money(waiting.cost_minor, waiting.currency)}"
    )


def claim(
    review: Annotated[str, typer.Argument(metavar="[REVIEW]", help="Id of an item; the next one without it.")] = "",
    *,
    by: By,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Claim an item for some minutes: the named one, else the dearest that nobody holds."""
    with Opened(home, tenant, config) as parts:
        _caught_up(parts)
        item = parts.reviewing.claim(parts.tenant, by, review)
        currency = parts.review_law.currency
    if as_json:
        show_json({"review": item})
    elif item is None:
        line("nothing waits for you")
    else:
        _print(item, currency)
        line(f"claimed until {to_iso(item.lease_until)}, fence {item.fence}")


def show(
    review: Review,
    *,
    by: Annotated[str, typer.Option("--by", help="Your name: you see what you said while it is open.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show an item; what others said of it is told once it is done or disputed."""
    with Opened(home, tenant, config) as parts:
        item = parts.reviewing.get(parts.tenant, review)
        said = parts.reviewing.opinions(parts.tenant, review, reader=by)
        gone = parts.reviewing.amending.taken_back(parts.tenant, review, reader=by)
        news = parts.reviewing.amending.news(parts.tenant, review, reader=by)
        currency = parts.review_law.currency
    if as_json:
        show_json({"review": item, "opinions": said, "taken_back": gone, "news": news})
        return
    _print(item, currency)
    for each in said:
        line(f"  {each.reviewer}: {_word(each.fraud)} {to_iso(each.time)} {each.note}")
    for turn in gone:
        stood = "" if turn.fraud is None else f", which was {_word(turn.fraud)}"
        line(f"  {turn.person} took it back{stood}, {to_iso(turn.time)}: {turn.why}")
    for one in news:
        line(f"  {one.kind}{'' if one.fraud is None else ', ' + _word(one.fraud)}, {to_iso(one.time)}")


def renew(
    review: Review, *, by: By, fence: Fence, tenant: Tenant = "", home: Home = None, config: Config = None
) -> None:
    """Begin your claim's time anew, while it lasts."""
    with Opened(home, tenant, config) as parts:
        item = parts.reviewing.renew(parts.tenant, review, by, fence)
    line(f"claimed until {to_iso(item.lease_until)}")


def release(
    review: Review, *, by: By, fence: Fence, tenant: Tenant = "", home: Home = None, config: Config = None
) -> None:
    """Give an item back."""
    with Opened(home, tenant, config) as parts:
        parts.reviewing.release(parts.tenant, review, by, fence)
    line(f"{review} is given back")


def judge(
    review: Review,
    *,
    by: By,
    fence: Fence,
    fraud: Annotated[bool, typer.Option("--fraud/--genuine", help="What it was.")],
    note: Annotated[str, typer.Option(help="Why.")] = "",
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Give a verdict under your claim; refused when the claim is over."""
    with Opened(home, tenant, config) as parts:
        item = parts.reviewing.judge(parts.tenant, review, by, fence, fraud=fraud, note=note)
    if as_json:
        show_json(item)
    elif item.state is ItemState.DONE:
        line(f"{item.id} is done: {_word(bool(item.fraud))}")
    elif item.disputed:
        line(f"{item.id} is disputed: a third decides")
    else:
        line(f"{item.id} waits for another pair of eyes")


def take_back(
    review: Review,
    *,
    by: By,
    why: Annotated[str, typer.Option("--why", help="Why it stands no more.")],
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Set aside what was said of an item: it is open again, and its label stands until people have judged anew."""
    with Opened(home, tenant, config) as parts:
        item = parts.reviewing.amending.take_back(parts.tenant, review, by, why=why)
    if as_json:
        show_json(item)
    else:
        line(f"{item.id} is open again: {'one person' if item.eyes == 1 else 'two people'} must judge it anew")


def agreement(
    *,
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How far back.")] = 90,
    tenant: Tenant = "",
    home: Home = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """How far reviewers agree beyond chance: Cohen's kappa over what two of them looked at."""
    with Opened(home, tenant, config) as parts:
        found = parts.reviewing.measure(parts.tenant, since=max(0, parts.clock.now() - days * DAY))
    if as_json:
        show_json(found)
        return
    line(f"the sample: {_agreed(found.sample)}")
    line(f"all that two looked at: {_agreed(found.every)}")
    for pair in found.pairs:
        line(f"  {pair.reviewers[0]} and {pair.reviewers[1]}: {_agreed(pair.agreement)}")


def _agreed(found: Agreement) -> str:
    if found.observed is None:
        return "no items yet"
    share = f"{found.items} items, {found.observed:.0%} equal"
    if found.kappa is None:
        return f"{share}, kappa not defined: every answer is the same"
    return f"{share}, kappa {found.kappa:.2f} ({found.low:.2f} to {found.high:.2f})"


def _print(item: Item, currency: str) -> None:
    about = item.about
    held = f", claimed by {item.holder}" if item.holder else ""
    line(f"{item.id}  {item.state}  {item.given} of {item.eyes} verdicts{held}")
    score = "no score" if about.score is None else f"score {about.score:.3f}"
    cost, stake = _money(item.cost_minor, currency), _money(item.exposure_minor, currency)
    line(f"{about.source} {about.event_id}, {score}, at stake {stake}, expected cost {cost}")
    for entity in about.entities:
        line(f"  {entity.key}")
    for reason in about.reasons:
        line(f"  because {reason.text}")


def _word(fraud: bool) -> str:
    return "fraud" if fraud else "genuine"


def _money(minor: int, currency: str) -> str:
    return str(Money(minor, currency))
