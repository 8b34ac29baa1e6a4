"""Reports of a case from its file: for who does not work on it, for who does, the next shift, and the review.

One report is a list of sections; printers make Markdown or HTML of it. Nothing is typed a second time: what a report
says stands in the file, and facts name the entry, alert or digest that they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from html import escape

import msgspec

from vedette.act.cases.clocks import ClockState
from vedette.act.cases.file import CaseFile, pace
from vedette.act.cases.nouns import Belief, Stance
from vedette.act.cases.phases import INCIDENT
from vedette.act.cases.review import Part
from vedette.act.timeline import ApprovalSettled, Entry, Noted, PhaseChanged, StepFinished, Withheld
from vedette.core.clock import MICROS, to_iso
from vedette.core.money import EXPONENTS
from vedette.core.render import printable

MAX_ROWS = 500
RECENT = 12 * 3_600 * MICROS
"""A handover tells what was done in the shift before."""


class Kind(StrEnum):
    """Which report."""

    BRIEF = "brief"
    """For people who do not work on it: what happened, whom and what it cost, what was done. No technical terms."""
    TECHNICAL = "technical"
    HANDOVER = "handover"
    """For the next shift."""
    REVIEW = "review"
    """The review, or its draft as far as it is not written."""


class Section(msgspec.Struct, frozen=True):
    """A part of a report."""

    title: str
    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """A table, its first row the head."""


class Report(msgspec.Struct, frozen=True):
    """A report, before it is printed."""

    title: str
    sections: tuple[Section, ...]


def make_report(file: CaseFile, kind: Kind) -> Report:
    """A report of a case."""
    parts = _KINDS[kind]
    title = f"{_TITLES[kind]}: {file.case.title}"
    made = (part(file) for part in parts)
    return Report(title, tuple(each for each in made if each.lines or len(each.rows) > 1))


def to_markdown(report: Report) -> str:
    """The report as Markdown; what others wrote stays text."""
    lines = [f"# {_md(report.title)}", ""]
    for section in report.sections:
        lines += [f"## {section.title}", "", *(f"- {_md(line)}" for line in section.lines)]
        if section.rows:
            head, *rows = section.rows
            lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
            lines += ["| " + " | ".join(map(_md, row)) + " |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def to_html(report: Report) -> str:
    """The report as one page of HTML without scripts; every value is escaped. A browser prints it as it is."""
    parts = [f"<h1>{escape(report.title)}</h1>"]
    for section in report.sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        if section.lines:
            parts.append("<ul>" + "".join(f"<li>{escape(printable(line))}</li>" for line in section.lines) + "</ul>")
        if section.rows:
            head, *rows = section.rows
            names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
            cells = ("".join(f"<td>{escape(printable(cell))}</td>" for cell in row) for row in rows)
            body = "".join(f"<tr>{row}</tr>" for row in cells)
            parts.append(f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>")
    title = f"<title>{escape(report.title)}</title>"
    opening = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}</head>'
    return f"{opening}<body>{''.join(parts)}</body></html>\n"


def _md(text: str) -> str:
    safe = printable(text)
    return "".join(f"\\{char}" if char in r"\`*_[]<>|#" else char for char in safe)


def facts(file: CaseFile) -> dict[str, str]:
    """What templates of notices name."""
    written = {part: each.text for part, each in file.review.parts.items()}
    confirmed = [each.title for each in file.hypotheses if each.state is Belief.CONFIRMED]
    return {
        "title": file.case.title,
        "what": written.get(Part.HAPPENED) or "; ".join(confirmed) or file.case.title,
        "entities": ", ".join(each.key for each in file.entities[:20]),
        "money": "; ".join(_money_lines(file)) or "none known",
        "contained": written.get(Part.CONTAINED) or "; ".join(_contained(file)) or "under way",
    }


# Sections


def _summary(file: CaseFile) -> Section:
    case = file.case
    owner = file.who(case.owner) if case.owner else "nobody"
    lines = [
        f"Case {case.id}, {case.level}, {_words(case.state)}, answered for by {owner}.",
        f"Opened {to_iso(case.created_time)}; this was made {to_iso(file.now)}.",
    ]
    if file.alerts:
        first = min(alert.first_time for alert in file.alerts)
        lines.append(f"The first thing we know of happened {to_iso(first)}.")
    return Section("Summary", tuple(lines))


def _what(file: CaseFile) -> Section:
    confirmed = [each for each in file.hypotheses if each.state is Belief.CONFIRMED]
    lines = [f"Found to be so: {each.title}." for each in confirmed]
    if written := file.review.parts.get(Part.HAPPENED):
        lines.insert(0, written.text)
    return Section("What happened", tuple(lines or [f"Still under examination: {file.case.title}."]))


def _impact(file: CaseFile) -> Section:
    kinds: dict[str, int] = {}
    for entity in file.entities:
        kinds[entity.type] = kinds.get(entity.type, 0) + 1
    named = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in sorted(kinds.items()))
    lines = [*([f"Concerned: {named}."] if named else []), *_money_lines(file)]
    return Section("Whom and what it touched", tuple(lines))


def _money_lines(file: CaseFile) -> list[str]:
    return [
        f"{each.payments} payments of {_money(each.attempted, each.currency)}: {_money(each.stopped, each.currency)} "
        f"stopped, {_money(each.moved, each.currency)} moved, {_money(each.returned, each.currency)} returned"
        for each in file.money
    ]


def _done(file: CaseFile) -> Section:
    return Section("What was done", tuple(_contained(file)))


def _contained(file: CaseFile) -> list[str]:
    found = []
    for entry in file.entries:
        match entry.body:
            case StepFinished(ok=True, action=action):
                found.append(f"{to_iso(entry.time)} {_words(action)} [#{entry.seq}]")
            case ApprovalSettled(decision="approved", by=by):
                found.append(f"{to_iso(entry.time)} containment approved by {file.who(by)} [#{entry.seq}]")
            case PhaseChanged(after=after) if after in INCIDENT:
                found.append(f"{to_iso(entry.time)} {_words(after)} began [#{entry.seq}]")
            case _:
                pass
    return found


def _open(file: CaseFile) -> Section:
    waiting = [each for each in file.tasks if not each.done]
    lines = [
        f"{each.title} ({file.who(each.owner) if each.owner else 'nobody'}"
        f"{', due ' + to_iso(each.due) if each.due else ''}{', OVERDUE' if each.overdue(file.now) else ''})"
        for each in waiting
    ]
    return Section("To do", tuple(lines))


def _clocks(file: CaseFile) -> Section:
    rows = [
        (
            each.id,
            _words(each.state),
            to_iso(each.aware),
            to_iso(each.due),
            "OVERDUE" if each.overdue(file.now) else "sent late" if each.late else "",
            f"approved by {file.who(each.approved_by)}" if each.approved_by else "",
        )
        for each in file.clocks
    ]
    return Section("Who must be told", rows=(("Notice", "State", "Aware", "Due", "", "Approval"), *rows))


def _phases(file: CaseFile) -> Section:
    rows = [
        (_words(phase), _span(spent), ", ".join(_words(each) for each in phase.functions))
        for phase, spent in file.phases.items()
    ]
    return Section("Time in each phase", rows=(("Phase (NIST SP 800-61r2)", "Time", "CSF 2.0"), *rows))


def _pace(file: CaseFile) -> Section:
    found = pace(file.alerts, file.entries)
    named = {"detect": found.detect_s, "acknowledge": found.acknowledge_s, "contain": found.contain_s}
    lines = [f"Time to {name}: {_span(round(value * MICROS))}." for name, value in named.items() if value is not None]
    return Section("How quick we were", tuple(lines))


def _attack(file: CaseFile) -> Section:
    rows = []
    for alert in sorted(file.alerts, key=lambda each: (each.first_time, each.id)):
        tags = ", ".join(tag.removeprefix("attack.") for tag in alert.tags if tag.startswith("attack.t"))
        about = alert.entity.key if alert.entity else ""
        rows.append((to_iso(alert.first_time), tags, alert.title, about, str(alert.signal_count), alert.id))
    seen = ", ".join(file.tactics) or "none named"
    lines = [f"Stages seen, in order: {seen}."]
    if file.gaps:
        lines.append(f"Nothing seen of: {', '.join(file.gaps)}. Look for it: unseen is not undone.")
    return Section("Course", tuple(lines), rows=(("First event", "ATT&CK", "Alert", "About", "Signals", "Id"), *rows))


def _hypotheses(file: CaseFile) -> Section:
    rows = []
    for each in file.hypotheses:
        sides = {stance: [w.reference for w in each.weights if w.speaks is stance] for stance in Stance}
        told = (", ".join(sides[Stance.FOR]), ", ".join(sides[Stance.AGAINST]))
        rows.append((each.title, _words(each.state), f"{each.confidence} %", *told, each.root))
    return Section("Hypotheses", rows=(("Hypothesis", "State", "Confidence", "For", "Against", "Root event"), *rows))


def _evidence(file: CaseFile) -> Section:
    rows = [
        (str(link.number), to_iso(link.time), link.act, link.name, link.item[:16], file.who(link.who), link.how)
        for link in file.links
    ]
    return Section("Chain of custody", rows=(("#", "When", "Act", "What", "SHA-256", "Who", "How"), *rows))


def _values(file: CaseFile) -> Section:
    rows = [(each.type, each.value) for each in file.observables]
    rows += [(each.type, each.id) for each in file.entities]
    return Section("Observables and assets", rows=(("Type", "Value"), *dict.fromkeys(rows)))


def _timeline(file: CaseFile) -> Section:
    rows = [(str(each.seq), to_iso(each.time), file.who(each.operator), *_told(each)) for each in file.entries]
    return Section("Timeline", rows=(("#", "When", "Who", "What", "Details"), *rows[:MAX_ROWS]))


def _told(entry: Entry) -> tuple[str, str]:
    if isinstance(entry.body, Withheld):
        return "withheld", "privileged"
    body = msgspec.to_builtins(entry.body)
    kind = body.pop("kind")
    if isinstance(entry.body, Noted):
        return "noted", entry.body.text
    details = (f"{name}={value}" for name, value in body.items() if value not in ("", None, False) and name != "result")
    return _words(kind), " ".join(details)


def _shift(file: CaseFile) -> Section:
    recent = [each for each in file.entries if each.time > file.now - RECENT]
    lines = [f"{to_iso(each.time)} {file.who(each.operator)}: {' '.join(_told(each))}" for each in recent]
    return Section("In the last twelve hours", tuple(lines[-MAX_ROWS:]))


def _next(file: CaseFile) -> Section:
    case = file.case
    lines = [] if case.owner else ["Nobody answers for this case: take it first."]
    lines += [f"Open question: {each.title} ({each.confidence} %)" for each in file.hypotheses if not each.root]
    late = [each for each in file.clocks if each.overdue(file.now)]
    lines += [f"OVERDUE since {to_iso(each.due)}: {each.id}" for each in late]
    waiting = [each for each in file.clocks if each.state is ClockState.DRAFTED]
    lines += [f"Waits for approval: {each.id}" for each in waiting]
    lines.append(f"Phase: {_words(case.phase)}; state: {_words(case.state)}.")
    return Section("Take over", tuple(lines))


def _review(file: CaseFile) -> Section:
    """What people wrote; of parts that nobody wrote, what the case says of itself."""
    drafts = {
        Part.HAPPENED: [f"{each.title} [{each.id}]" for each in file.alerts],
        Part.CONTAINED: _contained(file),
        Part.FOUND: [f"{h.title} [{h.root or h.id}]" for h in file.hypotheses if h.state is Belief.CONFIRMED],
        Part.CHANGED: [],
    }
    rows = []
    for part in Part:
        written = file.review.parts.get(part)
        said = written.text if written else "; ".join(drafts[part]) or "not written"
        rows.append((str(part), said, file.who(written.by) if written else "draft"))
    rows += [("change", f"{each.what}: {each.reference}", file.who(each.by)) for each in file.review.changes]
    return Section("Review", rows=(("Part", "Text", "By"), *rows))


def _money(minor: int, currency: str) -> str:
    exponent = EXPONENTS.get(currency, 2)
    major, rest = divmod(minor, 10**exponent)
    return f"{major:,}{f'.{rest:0{exponent}d}' if exponent else ''} {currency}"


def _span(micros: int) -> str:
    minutes, seconds = divmod(micros // MICROS, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _words(name: str) -> str:
    return str(name).replace("_", " ")


_Part = Callable[[CaseFile], Section]
_KINDS: dict[Kind, Sequence[_Part]] = {
    Kind.BRIEF: (_summary, _what, _impact, _done, _clocks),
    Kind.TECHNICAL: (
        *(_summary, _attack, _impact, _hypotheses, _values, _phases, _pace),
        *(_done, _evidence, _clocks, _open, _review, _timeline),
    ),
    Kind.HANDOVER: (_summary, _next, _open, _clocks, _hypotheses, _shift),
    Kind.REVIEW: (_summary, _review, _impact, _attack, _phases, _pace, _done),
}
_TITLES = {Kind.BRIEF: "Brief", Kind.TECHNICAL: "Report", Kind.HANDOVER: "Handover", Kind.REVIEW: "Review"}
