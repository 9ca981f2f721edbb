"""The list that follows what happens: in flight, then over; politely; and back again after the server was away."""

import re
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from playwright.sync_api import Page, Route, expect

from tests.appliance import Appliance, running, until
from tests.browser.conftest import Watch, Watched
from tests.browser.traffic import QUICK, call, document, rows, together

ROWS = "tbody[data-ended] tr"
LIVE = "live-feed[state=live]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, program: Sequence[str]) -> Iterator[Appliance]:
    with running(tmp_path_factory.mktemp("live"), document, settings=QUICK, program=program) as (appliance, _):
        yield appliance


@pytest.fixture
def window(watch: Watch, server: Appliance) -> Watched:
    opened = watch(url=server.url)
    opened.sign_in()
    return opened


def listed(page: Page) -> list[str]:
    return [str(row.get_attribute("data-request")) for row in page.locator(ROWS).all()]


def recorded(server: Appliance) -> list[str]:
    return [found for (found,) in rows(server, "SELECT id FROM requests ORDER BY seq DESC")]


def test_each_request_is_seen_in_flight_and_then_once(window: Watched, server: Appliance) -> None:
    page = window.page
    first = call(server)
    window.open("/requests")
    page.locator(LIVE).wait_for()
    page.locator(f"{ROWS}[data-request='{first}']").wait_for()
    page.mouse.move(2, 2)
    before = page.locator(ROWS).count()
    threads = together(server, ["slow"] * 10)
    expect(page.locator("tbody[data-running] tr")).to_have_count(10)
    expect(page.locator("tbody[data-running] tr").first).to_contain_text("in flight")
    threads += together(server, ["chat"] * 10 + ["failing"] * 5 + ["no-such-model"] * 5)
    for thread in threads:
        thread.join()
    expect(page.locator(ROWS)).to_have_count(before + 30)
    expect(page.locator("tbody[data-running] tr")).to_have_count(0)
    until(lambda: listed(page) == recorded(server), 10, "in the log as in the list: newest first, and none twice")
    first = page.locator(ROWS).first
    first.locator("a").click()
    expect(page.locator("#sheet")).to_contain_text(str(first.get_attribute("data-request")))
    page.reload()
    assert listed(page) == recorded(server)[:50]


def test_new_rows_wait_while_somebody_points_at_one(window: Watched, server: Appliance) -> None:
    page = window.page
    call(server)
    window.open("/requests")
    page.locator(LIVE).wait_for()
    page.locator(ROWS).first.hover()
    before = listed(page)
    for _ in range(3):
        call(server)
    show = page.get_by_role("button", name="3 new · show")
    expect(show).to_be_visible()
    assert listed(page) == before
    show.press("Enter")  # the pointer stays: when it leaves, the rows come by themselves
    expect(page.locator(f"{ROWS} >> nth=3")).to_have_attribute("data-request", before[0])
    expect(show).to_be_hidden()


def test_the_feed_can_be_switched_off_and_keeps_to_the_filters(window: Watched, server: Appliance) -> None:
    page = window.page
    window.open("/requests?model=small")
    page.locator(LIVE).wait_for()
    page.mouse.move(2, 2)
    wanted = call(server, "small")
    expect(page.locator(f"{ROWS} >> nth=0")).to_have_attribute("data-request", wanted)
    call(server)
    wanted = call(server, "small")
    expect(page.locator(f"{ROWS} >> nth=0")).to_have_attribute("data-request", wanted)
    assert set(page.locator(f"{ROWS} td:nth-child(3)").all_inner_texts()) == {"small → sim-chat?tokens=5"}
    window.open("/requests?tag=team%3Da")
    page.locator(LIVE).wait_for()
    page.mouse.move(2, 2)
    slow = [threading.Thread(target=call, args=(server, "slow"), kwargs={"tags": tags}) for tags in ("team=b", "beta, team=a")]
    for thread in slow:
        thread.start()
    running = page.locator("tbody[data-running] tr")
    expect(running).to_have_count(1)
    assert running.locator("a.tag").all_inner_texts() == ["beta", "team=a"]
    expect(page.locator(ROWS)).to_have_count(1)
    assert page.locator(ROWS).locator("a.tag").all_inner_texts() == ["beta", "team=a"]
    for thread in slow:
        thread.join()
    page.keyboard.press(".")
    page.get_by_role("link", name="Go live").wait_for()
    assert "live=off" in page.url
    assert page.locator("live-feed").count() == 0


def test_after_the_server_was_away_nothing_is_lost_or_doubled(window: Watched, server: Appliance) -> None:
    page = window.page
    made = [call(server) for _ in range(2)]
    window.open("/requests")
    page.locator(LIVE).wait_for()
    page.mouse.move(2, 2)
    made.append(call(server))
    server.kill()
    page.locator("live-feed[state=reconnecting]").wait_for()
    expect(page.locator("[data-state]")).to_contain_text("Reconnecting")
    server.start()
    made += [call(server) for _ in range(3)]
    page.locator(LIVE).wait_for()
    made.append(call(server))
    until(lambda: listed(page)[: len(made)] == made[::-1], 10, "every request, the newest first")
    assert len(set(listed(page))) == len(listed(page))
    window.forgive("/events/requests", "htmx:sse:error")


def test_whoever_signs_out_sees_no_more_in_any_window(window: Watched, server: Appliance) -> None:
    """Also where somebody else signs them out: the list stops by itself, at once."""
    page = window.page
    window.open("/requests")
    page.locator(LIVE).wait_for()
    page.mouse.move(2, 2)
    expect(page.locator(f"{ROWS} >> nth=0")).to_have_attribute("data-request", call(server))
    before = listed(page)
    other = page.context.new_page()
    other.goto(f"{server.url}/me")
    other.get_by_role("button", name="Account of").click()
    other.get_by_role("button", name="Sign out", exact=True).click()
    other.wait_for_url("**/login")
    expect(page.locator("live-feed")).to_have_attribute("state", "ended")
    expect(page.locator("[data-state]")).to_contain_text("Ended")
    call(server)
    assert listed(page) == before
    page.reload()
    page.wait_for_url("**/login?next=**")


def test_a_page_says_that_there_are_too_many_like_it(window: Watched, server: Appliance) -> None:
    window.expect(429)
    window.page.route("**/events/requests?*", lambda route: route.fulfill(status=429, content_type="text/html", body="<p>Too many</p>"))
    window.open("/requests")
    expect(window.page.locator("live-feed")).to_have_attribute("state", "full")
    expect(window.page.locator("live-feed")).to_contain_text("Too many live pages open")


def test_a_first_visit_on_a_slow_line_is_live_at_once(window: Watched, server: Appliance) -> None:
    """Our own script arrives last: the feed must not be taken up before somebody listens to it."""
    page = window.page
    call(server)

    def late(route: Route) -> None:
        time.sleep(1)  # the line is that slow
        route.continue_()

    page.route(re.compile(r"/app\.js"), late)
    window.open("/requests")
    expect(page.locator("live-feed")).to_have_attribute("state", "live", timeout=5000)
