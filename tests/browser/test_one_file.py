"""The pages of the one-file program: what moves on them, by the tests that the checkout passes, and everything that they are made of."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.appliance import ROOT
from tests.browser.conftest import Site, Watch
from tests.browser.newcomer import Hand, Newcomer, first_start
from tests.browser.talking import talking
from tests.browser.test_newcomer import check_charge
from tests.browser.test_playground import (
    member,
    test_an_answer_grows_before_it_is_complete_and_says_what_it_took,
    test_escape_stops_an_answer_and_the_provider_is_let_go,
    test_leaving_the_page_lets_the_provider_go,
    test_two_models_stream_at_once_and_one_that_fails_leaves_the_other_whole,
)
from tests.browser.test_requests_live import (
    server,
    test_after_the_server_was_away_nothing_is_lost_or_doubled,
    test_each_request_is_seen_in_flight_and_then_once,
    test_new_rows_wait_while_somebody_points_at_one,
    test_the_feed_can_be_switched_off_and_keeps_to_the_filters,
    window,
)

__all__ = [
    "member",
    "server",
    "talking",
    "test_after_the_server_was_away_nothing_is_lost_or_doubled",
    "test_an_answer_grows_before_it_is_complete_and_says_what_it_took",
    "test_each_request_is_seen_in_flight_and_then_once",
    "test_escape_stops_an_answer_and_the_provider_is_let_go",
    "test_leaving_the_page_lets_the_provider_go",
    "test_new_rows_wait_while_somebody_points_at_one",
    "test_the_feed_can_be_switched_off_and_keeps_to_the_filters",
    "test_two_models_stream_at_once_and_one_that_fails_leaves_the_other_whole",
    "window",
]

pytestmark = [pytest.mark.long, pytest.mark.binary]

PROGRAM = ROOT / "dist" / "dwctl"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@pytest.fixture(scope="module")
def program() -> Sequence[str]:
    assert PROGRAM.exists(), "dist/dwctl is missing: make binary"
    return (str(PROGRAM),)


def test_every_asset_is_in_it_and_may_be_kept_for_ever(site: Site, watch: Watch) -> None:
    window = watch()
    window.open("/login")
    style = str(window.page.locator("link[rel=stylesheet]").get_attribute("href"))
    assert style.endswith("/app.css")
    files = [path for path in (ROOT / "static").rglob("*") if path.suffix in TYPES]
    assert {path.name for path in files} >= {"app.css", "app.js", "htmx.min.js", "hx-sse.min.js", "icon.svg", "icons.svg"}
    for path in files:
        name = path.relative_to(ROOT / "static").as_posix()
        answer = window.page.request.get(site.url + style.removesuffix("app.css") + name)
        assert (answer.status, answer.headers["content-type"]) == (200, TYPES[path.suffix]), name
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable", name
        assert answer.body() == path.read_bytes(), name


def test_a_newcomer_s_way(tmp_path: Path, program: Sequence[str], watch: Watch) -> None:
    """Every window watches that nothing is asked of anybody else."""
    with first_start(tmp_path, program) as site:
        newcomer = Newcomer(site, Hand(watch(url=site.url)))
        check_charge(newcomer, newcomer.whole_way())
        expect(newcomer.page.locator("[data-charged]")).to_be_visible()
