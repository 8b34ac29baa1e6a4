"""The card form in a browser: what is typed reaches the vault and nobody else."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from vault_world import Served

NUMBER = "4000 0566 5566 5556"
HTML = """<!doctype html><title>Shop</title><h1>Pay</h1><div id="card"></div>
<script src="{vault}/card.js" integrity="{integrity}" crossorigin="anonymous"></script>
<script>
  window.heard = []; window.typed = [];
  document.addEventListener("keydown", (event) => typed.push(event.key), true);
  window.addEventListener("message", (event) => heard.push(JSON.stringify(event.data)));
  window.done = new Promise((onCard, onError) =>
    VedetteCard.mount(document.getElementById("card"), "{ticket}", {{ onCard, onError }}));
  done.catch(() => {{}});
</script>"""


class Shop:
    """A merchant's site that notes everything it is sent."""

    def __init__(self) -> None:
        shop = self
        self.page = ""
        self.sent: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shop.sent.append(f"{self.path} {self.headers}")
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(shop.page.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    opened = Shop()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("vault"), shop.origin)
    yield served
    served.stop()


@pytest.fixture
def page(chromium: Browser, vault: Served, shop: Shop) -> Iterator[Page]:
    key = vault.key("cards:write")
    wanted = {"merchant": "m-1", "purposes": ["charge"], "page": shop.origin}
    ticket = vault.call("POST", "/v1/tickets", key, json=wanted).json()["ticket"]
    integrity = vault.call("GET", "/integrity.json").json()["card.js"]
    shop.page = HTML.format(vault=vault.url, integrity=integrity, ticket=ticket)
    opened = chromium.new_context().new_page()
    yield opened
    opened.context.close()


def fill(page: Page, number: str) -> None:
    frame = page.frame_locator("iframe")
    for name, text in (("Card number", number), ("Month", "12"), ("Year", "30")):
        frame.get_by_label(name).press_sequentially(text)
    frame.get_by_role("button", name="Save card").click()


def test_only_the_vault_gets_the_number(page: Page, vault: Served, shop: Shop) -> None:
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.url, request.post_data or "")))
    page.goto(shop.origin)
    fill(page, NUMBER)
    card = page.evaluate("done")
    assert card["token"].startswith("tok_")
    assert (card["brand"], card["last4"]) == ("visa", "5556")
    assert {url for url, body in asked if "4000" in body} == {f"{vault.url}/v1/cards"}
    # The page heard of the token alone: neither messages nor keys of the frame reach it, and it cannot look inside.
    assert "4000" not in page.evaluate("JSON.stringify([heard, typed])")
    assert "SecurityError" in page.evaluate(
        "(() => { try { return frames[0].document.title } catch (error) { return error.name } })()"
    )
    assert "4000" not in "".join(shop.sent)
    assert all(url.startswith((vault.url, shop.origin)) for url, _ in asked)


def test_a_slip_is_told_and_can_be_mended(page: Page, shop: Shop) -> None:
    page.goto(shop.origin)
    fill(page, "4000 0566 5566 5557")
    frame = page.frame_locator("iframe")
    frame.get_by_text("Please check the card details.").wait_for()
    page.evaluate("done.catch((error) => { window.told = error.code })")
    page.wait_for_function("window.told === 'vault.number.invalid'")
    for name in ("Card number", "Month", "Year"):
        frame.get_by_label(name).fill("")
    fill(page, NUMBER)
    frame.get_by_text("Saved: visa ending in 5556").wait_for()


def test_another_site_cannot_show_the_form(chromium: Browser, page: Page, vault: Served) -> None:
    other = Shop()
    other.page = f'<!doctype html><title>Evil</title><iframe src="{vault.url}/frame"></iframe>'
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(other.origin)
    while not any("frame-ancestors" in text for text in complaints):
        page.wait_for_timeout(50)
    other.close()
    assert all("Card number" not in (frame.content()) for frame in page.frames[1:])


def test_a_changed_script_does_not_run(page: Page, shop: Shop) -> None:
    shop.page = shop.page.replace('integrity="sha384-', 'integrity="sha384-A')
    page.goto(shop.origin)
    assert page.evaluate("typeof VedetteCard") == "undefined"
