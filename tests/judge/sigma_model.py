"""What a Sigma rule means, written down a second time as plainly as can be, and rules and events to try it on.

Nothing here uses the product or pySigma: values are read from the rule's own text. Conditions are drawn as trees, so
that no parser is needed to know what they mean.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import re

DASHES = "-/–—―"
FIELDS = ("a", "b", "c")
PIECES = ("a", "B", "ab", "\\", "*", "?", "\\*", "\\\\", "-", " -a", " /b", "_", "%", "ß", "SS", "é", "1", " ", ".")


def to_regex(text):
    """A text with wildcards: `*`, `?`, and a backslash that takes the meaning from these and from itself."""
    found, place = "", 0
    while place < len(text):
        char, after = text[place], text[place + 1 : place + 2]
        if char == "\\" and after and after in "*?\\":
            found, place = found + re.escape(after), place + 1
        else:
            found += {"*": ".*", "?": "."}.get(char) or re.escape(char)
        place += 1
    return found


def plain(text):
    """The text itself, where it has no wildcards."""
    return re.sub(r"\\([*?\\])", r"\1", text)


def quoted(text):
    return re.sub(r"([*?\\])", r"\\\1", text)


def has_wildcard(text):
    return re.search(r"[*?]", re.sub(r"\\[*?\\]", "", text)) is not None


def text_of(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def dashed(text):
    """Every text with other dashes where a dash begins a word."""
    parts = re.split(r"\B[-/]\b", text)
    for dashes in itertools.product(DASHES, repeat=len(parts) - 1):
        yield "".join(itertools.chain(*zip(parts, (*dashes, ""), strict=True)))


def shifted(raw):
    """What any base64 of a text around it holds: the characters that do not change with what stands beside it."""
    for before in range(3):
        three = [base64.b64encode(b"\0" * before + raw + tail).decode() for tail in (b"\0\0\0", b"\xff\xff\xff")]
        others = base64.b64encode(b"\xff" * before + raw + b"\0\0\0").decode()
        same = [x == y == z for x, y, z in zip(*three, others, strict=True)]
        first = same.index(True)
        yield three[0][first : first + next((n for n, one in enumerate(same[first:]) if not one), len(same) - first)]


def item_holds(key, value, event):
    """One line of a map."""
    field, *modifiers = key.split("|")
    values = value if isinstance(value, list) else [value]
    join = all if "all" in modifiers else any
    found = join(value_holds(field, modifiers, each, event) for each in values)
    return not found if "neq" in modifiers else found


def value_holds(field, modifiers, value, event):
    if "exists" in modifiers:
        return (field in event) is value
    if value is None:
        return event.get(field) is None
    have = event.get(field)
    if field == "":
        have = [one for each in event.values() for one in (each if isinstance(each, list) else [each])]
        modifiers = [*modifiers, "contains"]
    items = [one for one in (have if isinstance(have, list) else [have]) if one is not None]
    return any(single_holds(modifiers, value, one, event) for one in items)


def single_holds(modifiers, value, have, event):
    compared = {"gt", "gte", "lt", "lte"} & set(modifiers)
    if compared:
        return compares(compared.pop(), value, have)
    text = text_of(have)
    if "re" in modifiers:
        return re.search(value, text, re.IGNORECASE if "i" in modifiers else 0) is not None
    if "cidr" in modifiers:
        return inside(value, text)
    if "fieldref" in modifiers:
        others = event.get(value)
        wanted = [quoted(text_of(one)) for one in (others if isinstance(others, list) else [others]) if one is not None]
    else:
        wanted = list(spelled(modifiers, text_of(value)))
    return any(text_holds(modifiers, one, text) for one in wanted)


def spelled(modifiers, text):
    """The texts that a value stands for once it is encoded."""
    raw = plain(text).encode("utf-16-le" if "wide" in modifiers else "utf-8")
    if "base64" in modifiers:
        yield base64.b64encode(raw).decode()
    elif "base64offset" in modifiers:
        yield from shifted(raw)
    elif "windash" in modifiers:
        yield from dashed(text)
    else:
        yield text


def text_holds(modifiers, wanted, text):
    before = ".*" if {"contains", "endswith"} & set(modifiers) else ""
    after = ".*" if {"contains", "startswith"} & set(modifiers) else ""
    if "cased" not in modifiers:
        wanted, text = wanted.casefold(), text.casefold()
    return re.fullmatch(before + to_regex(wanted) + after, text, re.DOTALL) is not None


def compares(how, value, have):
    """Numbers, and texts that spell one and nothing else."""
    if isinstance(have, bool) or not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", str(have), re.IGNORECASE):
        return False
    number = float(have)
    return {"gt": number > value, "gte": number >= value, "lt": number < value, "lte": number <= value}[how]


def inside(network, text):
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(network)
    except ValueError:
        return False


def selection_holds(selection, event):
    """A map asks all, a list any."""
    if isinstance(selection, dict):
        return all(item_holds(key, value, event) for key, value in selection.items())
    if isinstance(selection, list):
        return any(selection_holds(one, event) for one in selection)
    return value_holds("", [], selection, event)


def holds(tree, selections, event):
    """A condition: ("name", x), ("not", t), ("and"|"or", t, t), ("1"|"all", pattern)."""
    kind, *parts = tree
    match kind:
        case "name":
            return selection_holds(selections[parts[0]], event)
        case "not":
            return not holds(parts[0], selections, event)
        case "and":
            return all(holds(part, selections, event) for part in parts)
        case "or":
            return any(holds(part, selections, event) for part in parts)
        case _:
            chosen = [one for name, one in selections.items() if name.startswith(parts[0]) and name[0] != "_"]
            return (all if kind == "all" else any)(selection_holds(one, event) for one in chosen)


def written(tree, loosest=0):
    """The condition as text, with no more brackets than it needs."""
    kind, *parts = tree
    match kind:
        case "name":
            return parts[0]
        case "not":
            return f"not {written(parts[0], 2)}"
        case "and" | "or":
            own = 1 if kind == "and" else 0
            text = f" {kind} ".join(written(part, own + 1) for part in parts)
            return f"({text})" if loosest > own else text
        case _:
            return f"{kind} of {parts[0]}*" if parts[0] else f"{kind} of them"


def random_text(rng, most=3):
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, most)))


ITEMS = (
    ("", (None, "", True, 1, [None, "a"], 1.5)),
    ("exists", (True, False)),
    ("gt", (0, 1, 1.5)),
    ("gte", (0, 1, 1.5)),
    ("lt", (0, 1, 1.5)),
    ("lte", (0, 1, 1.5)),
    ("cidr", ("10.0.0.0/8", "10.0.0.7/32")),
    ("fieldref", FIELDS),
    ("fieldref|startswith", FIELDS),
    ("fieldref|contains", FIELDS),
)
"""Modifiers that want a field, and values for them."""
ENCODED = ("base64", "base64offset|contains", "wide|base64offset|contains", "wide|base64")
HIDDEN = ("abc", "a\\*b", "C:\\x", "~~abcd")


def random_item(rng):
    """A line of a map."""
    field = rng.choice((*FIELDS, "")) if rng.random() < 0.2 else rng.choice(FIELDS)
    if field and rng.random() < 0.4:
        name, values = rng.choice(ITEMS)
        return "|".join(filter(None, (field, name))), rng.choice(values)
    if rng.random() < 0.15:
        return f"{field}|{rng.choice(('re', 're|i'))}", rng.choice(("a", "^B", "b$", "[*]", "s+"))
    if rng.random() < 0.15:
        return f"{field}|{rng.choice(ENCODED)}", rng.choice(HIDDEN)
    names = [rng.choice(("contains", "startswith", "endswith", ""))] if field else []
    values = [random_text(rng) for _ in range(rng.randint(1, 3))]
    names += [name for name in ("windash", "all", "cased") if rng.random() < 0.3]
    if field and rng.random() < 0.1:
        names.append("neq")
    key = "|".join([field, *filter(None, names)])
    return key or "|all", values if len(values) > 1 else values[0]


def random_selection(rng, depth=2):
    if depth and rng.random() < 0.25:
        return [random_selection(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    if depth < 2 and rng.random() < 0.2:
        return random_text(rng) or "a"
    return dict(random_item(rng) for _ in range(rng.randint(1, 2)))


NAMES = ("sel_1", "sel_2", "notsel", "_own", "orb")


def random_tree(rng, names, depth=3):
    kind = rng.choice(("name", "not", "and", "or", "1", "all")) if depth else "name"
    match kind:
        case "name":
            return "name", rng.choice(names)
        case "not":
            return "not", random_tree(rng, names, depth - 1)
        case "and" | "or":
            return kind, random_tree(rng, names, depth - 1), random_tree(rng, names, depth - 1)
        case _:
            return kind, rng.choice(sorted({name.split("_")[0] for name in names if name[0] != "_"} | {""}))


def random_case(rng):
    """Selections, a condition over them, and an event that is near one of the values."""
    names = rng.sample(NAMES, rng.randint(1, 3))
    if all(name[0] == "_" for name in names):
        names.append("sel_1")
    selections = {name: random_selection(rng) for name in names}
    event = {}
    for name in rng.sample(FIELDS, rng.randint(0, 3)):
        event[name] = random_value(rng, selections, name)
    return selections, random_tree(rng, names), event


def random_value(rng, selections, field):
    near = [near_value(rng, key, value) for key, value in items_of(selections) if key.split("|")[0] in (field, "")]
    value = (
        rng.choice(near) if near and rng.random() < 0.8 else rng.choice((None, "", 1, True, "1", 2.5, "10.0.0.7", "x"))
    )
    return [value, rng.choice(("x", None, 1))][:: rng.choice((1, -1))] if rng.random() < 0.15 else value


def items_of(part):
    if isinstance(part, dict):
        for key, value in part.items():
            if key in NAMES:
                yield from items_of(value)
            else:
                yield key, value
    elif isinstance(part, list):
        for each in part:
            yield from items_of(each)
    else:
        yield "", part


def near_value(rng, key, value):
    """A value that the item may hold for, or nearly."""
    modifiers = key.split("|")[1:]
    values = value if isinstance(value, list) else [value]
    value = " ".join(map(str, values)) if "all" in modifiers and rng.random() < 0.5 else rng.choice(values)
    if not isinstance(value, str):
        return value
    text = rng.choice(list(spelled([name for name in modifiers if name != "cidr"], value)))
    if not {"base64", "base64offset"} & set(modifiers) and rng.random() < 0.9:
        text = re.sub(r"(?<!\\)[*?]", lambda _: rng.choice(("x", "yz", "")), text)
        text = plain(text)
    if rng.random() < 0.3:
        text = re.sub(r"[-/]", lambda _: rng.choice(DASHES), text)
    if rng.random() < 0.5:
        text = rng.choice(("", "x", " ")) + text + rng.choice(("", "x", " "))
    return text.swapcase() if rng.random() < 0.2 else text
