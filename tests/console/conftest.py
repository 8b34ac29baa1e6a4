"""What tests of the console use: a served installation, a browser, and the checks that every page must pass."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from console_world import CHIEF, Installation, Seed
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ("color-contrast", "link-in-text-block")
GRAVE = {"serious", "critical"}
PATIENCE_MS = 120_000
"""How long a page may take: a bound of a test that hangs."""
expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items) -> None:
    """Marks what drives the browser, so that `-m "not chromium"` leaves it out."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("chromium")


@pytest.fixture(scope="session")
def seeded(tmp_path_factory) -> Path:
    """A home folder with a small installation in it; copied, never served itself."""
    home = tmp_path_factory.mktemp("seed") / "home"
    home.mkdir()
    # In a thread of its own: the browser's driver runs an event loop in this one, where a platform cannot be opened.
    with ThreadPoolExecutor(1) as apart:
        apart.submit(Seed(home).fill).result()
    return home


@pytest.fixture(scope="module")
def installation(seeded, tmp_path_factory) -> Iterator[Installation]:
    """The installation, served; of this file's tests only, which may change it."""
    served = Installation(seeded, tmp_path_factory.mktemp("served") / "home")
    yield served
    served.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser, of one file's tests: its driver runs an event loop in the main thread, which other tests want free.

    Not installed: skip, which fails where CI is set.
    """
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """Opens pages as somebody, and keeps what the browser complained about.

    Args:
        browser: Where.
        installation: Whose pages.
    """

    def __init__(self, browser: Browser, installation: Installation) -> None:
        self._browser = browser
        self.installation = installation
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def __call__(
        self, path: str, *, who: str = CHIEF, width: int = 1440, theme: str = "light", expect: int = 200
    ) -> Page:
        """A page in a fresh context. `who` is empty for nobody; `expect` is the status of the answer."""
        size = WIDE if width == WIDE["width"] else {"width": width, "height": NARROW["height"]}
        context = self._browser.new_context(
            base_url=self.installation.url,
            viewport=size,
            color_scheme=theme,
            reduced_motion="reduce",
            timezone_id="UTC",
            locale="en-GB",
        )
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        if who:
            context.add_cookies([self.installation.cookie(who)])
        page = context.new_page()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"{path}: {error}"))
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == expect, f"{path}: {answer.status}"
        settle(page)
        return page

    def _heard(self, kind: str, text: str) -> None:
        # A page that is refused or missing is told in the console too; what tests of those expect is the status.
        if kind == "error" and "Failed to load resource" not in text:
            self.complaints.append(text)

    def close(self) -> None:
        for context in self._contexts:
            context.close()


def settle(page: Page) -> None:
    """Waits until charts are drawn and nothing is asked any more."""
    page.wait_for_load_state("load")
    page.wait_for_function(
        "() => !document.documentElement.classList.contains('busy') &&"
        " [...document.querySelectorAll('[data-chart] .chart-plot, [data-graph] .chart-plot')].every(each => each.childNodes.length)"
    )


@pytest.fixture
def visit(chromium, installation) -> Iterator[Visit]:
    """Opens a page: `visit("/alerts")`. At the end the browser must not have complained, of the CSP above all."""
    visiting = Visit(chromium, installation)
    yield visiting
    visiting.close()
    assert visiting.complaints == []


@pytest.fixture(scope="session")
def axe() -> Callable[..., None]:
    """Fails on serious and critical violations of accessibility: `axe(page)`."""
    file = HERE / "vendor" / "axe.min.js"
    if not file.exists():
        pytest.skip("axe-core is not installed: run scripts/assets")
    source = file.read_text(encoding="utf-8")

    def check(page: Page, only: tuple[str, ...] = ()) -> None:
        if not page.evaluate("() => 'axe' in window"):
            page.evaluate(source)
        wanted = {"type": "rule", "values": list(only)} if only else AXE_TAGS
        size = page.viewport_size
        # The whole page in view: what a bar that sticks to the window's edge covers depends on how far it is scrolled.
        tall = page.evaluate("document.documentElement.scrollHeight + 400")
        page.set_viewport_size({"width": size["width"], "height": tall})
        found = page.evaluate("wanted => axe.run(document, {runOnly: wanted})", wanted)
        page.set_viewport_size(size)
        grave = [
            f"{each['id']} ({each['impact']}): {each['help']}: {node['target']} {node.get('failureSummary', '')}"
            for each in found["violations"]
            if each["impact"] in GRAVE
            for node in each["nodes"]
        ]
        assert not grave, page.url + "\n" + "\n".join(grave)

    return check


def overflow(page: Page) -> list[str]:
    """What is wider than the window, so that the whole page would scroll sideways."""
    return json.loads(
        page.evaluate(
            """() => JSON.stringify(document.documentElement.scrollWidth <= innerWidth ? [] :
                [...document.querySelectorAll('main *')].filter(each => {
                    const box = each.getBoundingClientRect();
                    return box.right > innerWidth + 1 && !each.closest('.scroll, pre, .tabs');
                }).slice(0, 8).map(each => each.tagName + '.' + each.className))"""
        )
    )


@pytest.fixture
def looks_right(visit, axe) -> Callable[..., None]:
    """Opens a page wide, light and dark, and narrow: no sideways scrolling, no serious violation, one h1, a title.

    With CONSOLE_SHOTS set to a folder, pictures are kept there.
    """
    shots = os.environ.get("CONSOLE_SHOTS", "")

    def check(path: str, *, who: str = CHIEF, expect: int = 200, name: str = "") -> None:
        # Colours are the same at every width.
        for width, theme in ((WIDE["width"], "light"), (WIDE["width"], "dark"), (NARROW["width"], "light")):
            page = visit(path, who=who, width=width, theme=theme, expect=expect)
            if shots:
                stem = name or path.strip("/").replace("/", "-").partition("?")[0] or "overview"
                page.screenshot(path=Path(shots) / f"{stem[:40]}-{width}-{theme}.png", full_page=True)
            assert page.locator("h1").count() == 1, f"{path}: one h1"
            assert page.title().endswith(" · Vedette"), path
            assert overflow(page) == [], f"{path} at {width}"
            # Of the other theme what differs: its colours.
            axe(page, only=() if theme == "light" else COLOURS)
            page.context.close()

    return check
