"""The colours: text that can be read, and series that people of every sight can tell apart."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from vedette.serve.console.page import PLACES

STATIC = Path(__file__).resolve().parents[2] / "src" / "vedette" / "serve" / "console" / "static"
CSS = (STATIC / "tokens.css").read_text()
HEX = re.compile(r"--([a-z0-9-]+):\s*(#[0-9a-f]{6});")

LIGHT = dict(HEX.findall(CSS.partition(':root[data-theme="dark"]')[0]))
DARK = LIGHT | dict(HEX.findall(CSS.partition(':root[data-theme="dark"]')[2].partition("@media")[0]))
SYSTEM_DARK = LIGHT | dict(HEX.findall(CSS.partition("prefers-color-scheme: dark")[2].partition("prefers-reduced")[0]))
THEMES = {"light": LIGHT, "dark": DARK}

# Machado, Oliveira and Fernandes 2009, severity 1.0: linear RGB as each kind of sight has it.
SIGHTS = {
    "all": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio, 1 to 21."""
    low, high = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    lms = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ rgb
    )
    return (
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ lms
    )


def apart(one: str, other: str, sight: str) -> float:
    """How different two colours look, in Oklab; about 0.02 is just seen."""
    seen = [oklab(np.clip(SIGHTS[sight] @ linear(each), 0, 1)) for each in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ink", ["ink", "ink-soft", "ink-faint", "accent", "accent-strong", "good", "bad"])
def test_text_can_be_read_on_every_ground(theme, ink):
    for ground in ("ground", "surface", "surface-sunk", "surface-hover"):
        assert contrast(THEMES[theme][ink], THEMES[theme][ground]) >= 4.5, ground


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("tone", ["good", "warn", "bad", "note"])
def test_text_of_a_tone_can_be_read_on_its_ground(theme, tone):
    colors = THEMES[theme]
    assert contrast(colors[f"{tone}-ink"], colors[f"{tone}-soft"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_controls_and_focus_stand_out(theme):
    colors = THEMES[theme]
    for name in ("line-control", "focus", "accent"):
        assert contrast(colors[name], colors["surface"]) >= 3
    assert contrast(colors["ink-on-accent"], colors["accent"]) >= 4.5


FAMILIES = {
    "actions": ("allow", "challenge", "review", "block"),
    "levels": ("informational", "low", "medium", "high", "critical"),
    "series": tuple(f"series-{number}" for number in range(1, 5)),
}


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("theme", THEMES)
def test_series_can_be_told_apart(theme, family, sight):
    colors = THEMES[theme]
    near = {
        (one, other): round(difference, 3)
        for one, other in itertools.combinations(FAMILIES[family], 2)
        if (difference := apart(colors[one], colors[other], sight)) < 0.06
    }
    assert near == {}


@pytest.mark.parametrize("theme", THEMES)
def test_marks_of_charts_stand_out_from_their_ground(theme):
    colors = THEMES[theme]
    for name in itertools.chain(*FAMILIES.values()):
        assert contrast(colors[name], colors["surface"]) >= 2, name


def test_colours_that_look_alike_are_found():
    assert apart("#1c7a46", "#7a5a1c", "deutan") < apart("#1c7a46", "#7a5a1c", "all")
    assert apart("#c8401f", "#c8411f", "all") < 0.01


def test_dark_is_the_same_by_choice_and_by_system():
    assert DARK == SYSTEM_DARK


def test_components_name_no_colour_of_their_own():
    logo = {"#0b5f57", "#fff", "#ffc145", "#2a1d00"}
    for name in ("frame.css", "words.css", "layout.css", "components.css", "controls.css"):
        used = set(
            re.findall(r"#[0-9a-fA-F]{3,8}\b", re.sub(r"/\*.*?\*/", "", (STATIC / name).read_text(), flags=re.DOTALL))
        )
        assert {each for each in used if not re.fullmatch(r"#[a-z-]*[g-z].*", each)} <= logo


def test_every_token_that_is_named_exists():
    known = set(re.findall(r"(--[a-z0-9-]+):", CSS))
    for path in STATIC.glob("*.css"):
        text = path.read_text()
        local = set(re.findall(r"(--[a-z0-9-]+):", text))
        assert set(re.findall(r"var\((--[a-z0-9-]+)", text)) <= known | local, path.name


def test_the_page_on_the_console_names_everything():
    told = (STATIC.parents[4] / "docs" / "console.md").read_text()
    macros = re.findall(r"{% macro (\w+)\(", (STATIC.parent / "templates" / "parts.html").read_text())
    filters = re.findall(r'^    "(\w+)":', (STATIC.parent / "format.py").read_text(), re.MULTILINE)
    kinds = re.findall(r"^    (\w+): \(data\) =>", (STATIC / "charts.js").read_text(), re.MULTILINE)
    keys = re.findall(r'Place\(.*?"(\w)", "\w+"[,)]', (STATIC.parent / "page.py").read_text())
    assert len(macros) > 25
    assert len(kinds) == 7
    assert len(keys) == len(set(keys)) == len(PLACES)
    missing = [
        *(name for name in macros if f"ui.{name}(" not in told),
        *(name for name in filters if f"|{name}" not in told),
        *(name for name in kinds if f"| `{name}` |" not in told),
        *(key for key in keys if f"`{key}`" not in told),
    ]
    assert missing == []
    plain = {name for name in LIGHT if not re.search(r"-(soft|ink)$|series-[2-5]", name)}
    assert [name for name in plain if f"`--{name}`" not in told] == []
