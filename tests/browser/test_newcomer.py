"""The first hour of an installation: from an empty directory to a first request whose cost one can check, by mouse, by keys and
without scripts."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PASSWORD, Site, Watch, email_of
from tests.browser.newcomer import Hand, Keys, Newcomer, booked, first_start

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
    window.open("/")
    expect(page.locator("[data-step=request]")).to_contain_text("chat costs credits and your account has none")
    window.open("/keys/new")
    page.get_by_label("Name", exact=True).fill("told beforehand")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("main")).to_contain_text("has none: the request would be refused. Somebody who manages credits can give it some.")
    expect(page.get_by_role("link", name="Give it credits in another tab")).to_have_count(0)
