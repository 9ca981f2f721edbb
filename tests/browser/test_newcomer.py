"""The first hour of an installation: from an empty directory to a first request whose cost one can check, by mouse, by keys, without
scripts, and with the one-file program."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Response, expect

from tests.appliance import ROOT
from tests.browser.conftest import PASSWORD, Site, Watch, email_of
from tests.browser.newcomer import Hand, Keys, Newcomer, booked, first_start

PROGRAM = ROOT / "dist" / "dwctl"
MOST_CLICKS = 30
MOST_PAGES = 25


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Site]:
    with first_start(tmp_path) as site:
        yield site


def check_charge(newcomer: Newcomer, shown: str) -> None:
    """What the page says is the ledger's, to the last digit."""
    nano = booked(newcomer.site.appliance, newcomer.request_id)
    assert nano > 0
    assert Decimal(shown) == Decimal(nano).scaleb(-9)


def test_from_an_empty_directory_to_the_cost_of_a_first_request(
    empty: Site, watch: Watch, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    hand = Hand(watch(url=empty.url))
    newcomer = Newcomer(empty, hand)
    check_charge(newcomer, newcomer.whole_way())
    record_property("clicks", hand.clicks)
    record_property("pages", len(hand.pages))
    with capsys.disabled():
        print(f"\n  {hand.clicks} clicks, {hand.fields} fields, {len(hand.pages)} pages: {' → '.join(hand.pages)}")
    assert hand.clicks <= MOST_CLICKS
    assert len(hand.pages) <= MOST_PAGES


def test_without_a_mouse(empty: Site, watch: Watch) -> None:
    keys = Keys(watch(url=empty.url))
    newcomer = Newcomer(empty, keys)
    check_charge(newcomer, newcomer.whole_way())
    page = keys.window.page
    # What opens beside the page or above it takes the focus, and gives it back.
    keys.go("Requests", "r")
    row = page.locator("tr[data-request]").first
    keys.press(row.get_by_role("link").first)
    expect(page.locator("#sheet [data-charged]")).to_be_visible()
    keys.look()
    keys.key("Escape")
    expect(page.locator("#sheet [data-charged]")).to_have_count(0)
    expect(row.get_by_role("link").first).to_be_focused()
    keys.look()
    keys.key("Control+k")
    expect(page.locator("#palette input")).to_be_focused()
    keys.key("Escape")
    expect(row.get_by_role("link").first).to_be_focused()
    keys.key("Control+k")
    page.keyboard.type("bill")
    expect(page.locator("#palette [role=option][aria-selected=true]")).to_contain_text("Billing")
    keys.key("Enter")
    page.wait_for_url("**/billing")
    assert keys.unseen == []


def test_without_scripts(empty: Site, watch: Watch) -> None:
    newcomer = Newcomer(empty, Hand(watch(url=empty.url, scripts=False)))
    check_charge(newcomer, newcomer.whole_way(scripts=False))


def test_who_has_no_credits_is_told_before_a_request_is_refused(watch: Watch) -> None:
    """The shared server's models have prices, and this user has never been given anything."""
    window = watch()
    page = window.page
    window.sign_in(email_of("StandardUser"), PASSWORD)
    expect(page.locator("[data-step=request]")).to_contain_text("chat costs credits and your account has none")
    window.open("/keys/new")
    page.get_by_label("Name", exact=True).fill("told beforehand")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("main")).to_contain_text("has none: the request would be refused. Somebody who manages credits can give it some.")
    expect(page.get_by_role("link", name="Give it credits in another tab")).to_have_count(0)


TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@pytest.mark.long
@pytest.mark.binary
def test_with_the_one_file_program(tmp_path: Path, watch: Watch) -> None:
    """Nothing is missing in it: every asset is there, may be kept for ever, and nothing is asked of anybody else."""
    assert PROGRAM.exists(), "dist/dwctl is missing: make binary"
    with first_start(tmp_path, (str(PROGRAM),)) as site:
        window = watch(url=site.url)
        assets: list[Response] = []
        asked: list[str] = []
        window.page.on("request", lambda request: asked.append(request.url))
        window.page.on("response", lambda response: assets.append(response) if "/static/" in response.url else None)
        newcomer = Newcomer(site, Hand(window))
        check_charge(newcomer, newcomer.whole_way())
        expect(window.page.locator("[data-charged]")).to_be_visible()
        assert {Path(response.url.partition("#")[0]).name for response in assets} >= {
            "app.css",
            "app.js",
            "htmx.min.js",
            "hx-sse.min.js",
            "icons.svg",
        }
        for response in assets:
            kind = Path(response.url.partition("#")[0]).suffix
            assert (response.status, response.headers["content-type"]) == (200, TYPES[kind]), response.url
            assert response.headers["cache-control"] == "public, max-age=31536000, immutable", response.url
        assert [url for url in asked if not url.startswith(f"{site.url}/")] == []
