"""The playground: answers that stream, can be stopped, stand side by side, and harm nobody whatever is in them."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, expect

from tests.appliance import until
from tests.browser.conftest import PASSWORD, Site, Watch, Watched
from tests.browser.talking import MEMBER, recorded, talking

__all__ = ["talking"]


@pytest.fixture
def member(talking: Site, watch: Watch) -> Watched:
    window = watch()
    window.sign_in(MEMBER, PASSWORD)
    return window


def send(window: Watched, text: str) -> Locator:
    """Send a message; the turn that answers it."""
    before = window.page.locator(".turn").count()
    window.page.get_by_label("Message").fill(text)
    window.page.get_by_role("button", name="Send").click()
    turn = window.page.locator(".turn").nth(before)
    expect(turn).to_be_visible()
    return turn


def request_id(turn: Locator) -> str:
    return str(turn.locator(".foot a").first.get_attribute("href")).rsplit("/", 1)[1]


def test_an_answer_grows_before_it_is_complete_and_says_what_it_took(member: Watched, admin: Watched) -> None:
    """Check 11, first half."""
    member.open("/playground?model=priced")
    turn = send(member, "Say something")
    text = turn.locator(".answer .raw").last
    expect(text).not_to_be_empty()
    begun = text.inner_text()
    expect(turn.locator(".foot")).to_contain_text("TTFT")
    whole = turn.locator(".prose").inner_text()
    assert len(begun) < len(whole)
    foot = turn.locator(".foot").inner_text()
    assert re.search(r"TTFT\s*\d+ ms", foot)
    assert re.search(r"\d+ tokens/s", foot)
    assert re.search(r"\d+ tokens in\s+40 out", foot)
    assert "$0.0004" in foot
    entry = recorded(admin, request_id(turn))
    assert (entry["status_code"], entry["purpose"], entry["request_origin"], entry["user_email"]) == (200, "playground", "frontend", MEMBER)
    assert entry["access_source"] == "session"
    assert entry["completion_tokens"] == 40
    expect(member.page.get_by_label("Message")).to_have_value("")
    expect(member.page.get_by_role("button", name="Send")).to_be_enabled()


def test_escape_stops_an_answer_and_the_provider_is_let_go(talking: Site, member: Watched, admin: Watched) -> None:
    """Check 11, second half."""
    member.open("/playground?model=slow")
    turn = send(member, "Talk for a while")
    expect(turn.locator(".answer .raw").last).not_to_be_empty()
    member.page.keyboard.press("Escape")
    expect(turn.locator(".foot")).to_contain_text("Stopped")
    entry = recorded(admin, request_id(turn))
    assert entry["outcome"] == "cancelled"
    assert 0 < entry["completion_tokens"] < 400

    def left() -> bool:
        served = talking.simulator.served().get(entry["id"])
        return served is not None and served["outcome"] == "aborted"

    until(left, 10, "the provider sees that nobody listens any more")
    again = send(member, "Go on")
    member.page.get_by_role("button", name="Stop").click()
    expect(again.locator(".foot")).to_contain_text("Stopped")


def test_leaving_the_page_lets_the_provider_go(talking: Site, member: Watched) -> None:
    member.open("/playground?model=slow")
    turn = send(member, "Talk to nobody")
    expect(turn.locator(".answer .raw").last).not_to_be_empty()
    member.open("/keys")
    until(lambda: not talking.appliance.in_flight(), 10, "nothing is under way")


def test_two_models_stream_at_once_and_one_that_fails_leaves_the_other_whole(member: Watched, admin: Watched) -> None:
    """Check 12."""
    member.open("/playground")
    page = member.page
    page.get_by_label("Model", exact=True).select_option("slow")
    page.get_by_label("Compare with").select_option("priced")
    page.get_by_label("Max tokens").fill("60")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("System prompt").fill("Be brief & kind")
    turn = send(member, "Hello, both")
    first, second = turn.locator(".answer").nth(0), turn.locator(".answer").nth(1)
    expect(first.locator(".raw").last).not_to_be_empty()
    expect(second.locator(".foot")).to_contain_text("TTFT")
    assert first.locator(".foot").count() == 0, "the slow one is still at it"
    expect(first.locator(".foot")).to_contain_text("Cut at max tokens")
    assert first.locator(".prose").inner_text()
    page.get_by_label("Compare with").select_option("torn")
    page.get_by_label("Model", exact=True).select_option("priced")
    broken = send(member, "And again")
    expect(broken.locator(".answer").nth(1).locator(".notice.danger")).to_be_visible()
    expect(broken.locator(".answer").nth(0).locator(".foot")).to_contain_text("40 out")
    assert recorded(admin, request_id(broken.locator(".answer").nth(1)))["outcome"] == "failed"
    page.get_by_role("button", name="Code and link").click()
    link = page.locator("#code .copyable code").inner_text()
    expect(page.locator("#code")).to_contain_text("Be brief & kind")
    member.open(link.removeprefix(member.url))
    expect(page.get_by_label("Model", exact=True)).to_have_value("priced")
    expect(page.get_by_label("Compare with")).to_have_value("torn")
    expect(page.get_by_label("Max tokens")).to_have_value("60")
    expect(page.get_by_label("Temperature")).to_have_value("0.5")
    expect(page.get_by_label("System prompt")).to_have_value("Be brief & kind")
