"""Every part that pages are made of, in a browser, under the strict policy."""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD, Appliance
from tests.browser.conftest import SCREENSHOTS, Watch, Watched, theme
from tests.browser.gallery import program
from tests.browser.test_every_page import look


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    directory: Path = tmp_path_factory.mktemp("gallery")
    appliance = Appliance(directory, program=(sys.executable, str(program.__file__)))
    try:
        appliance.start()
        yield appliance
    finally:
        appliance.close()


@pytest.fixture
def window(watch: Watch, served: Appliance) -> Watched:
    opened = watch(url=served.url)
    opened.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    opened.open("/gallery")
    return opened


@pytest.mark.parametrize("name", ["light", "dark"])
def test_parts_are_accessible(window: Watched, name: str) -> None:
    with theme(window, name):
        window.open("/gallery")
        window.page.locator("#fed li").nth(2).wait_for()
        if SCREENSHOTS:
            window.page.screenshot(path=f"{SCREENSHOTS}/gallery-{name}.png", full_page=True)
        assert look(window, "/gallery") == []
        window.page.get_by_role("button", name="Remove").click()
        dialog = window.page.locator("#remove")
        assert dialog.get_by_role("button", name="Cancel").evaluate("element => element === document.activeElement")
        assert look(window, "the dialog") == []
        window.page.keyboard.press("Escape")
        assert not dialog.is_visible()


def test_a_feed_fills_a_list_once_and_says_that_it_has_ended(window: Watched) -> None:
    window.page.locator("live-feed[state=ended]").wait_for()
    assert window.page.locator("#fed li").all_inner_texts() == ["message 1", "message 2", "message 3"]


def test_a_filter_fills_its_block_and_keeps_the_address(window: Watched) -> None:
    page = window.page
    page.evaluate("window.stayed = true")
    page.get_by_role("searchbox").fill("alp")
    page.wait_for_url("**/gallery?q=alp**")
    page.get_by_role("link", name="beta").wait_for(state="detached")
    assert page.locator("#rows-of-names tbody tr").count() == 1
    assert page.get_by_role("searchbox").evaluate("element => element === document.activeElement")
    page.get_by_role("searchbox").fill("nothing like it")
    page.get_by_text("None has this in it.").wait_for()
    assert page.evaluate("window.stayed")
    page.reload()
    assert page.get_by_role("searchbox").input_value() == "nothing like it"
    page.get_by_role("link", name="Show all").click()
    page.locator("th a", has_text="Name").click()
    page.wait_for_url("**sort=name")
    assert page.locator("th[aria-sort=ascending]").count() == 1


def test_what_breaks_behind_a_part_of_the_page_is_said_beside_it(window: Watched, served: Appliance) -> None:
    window.expect(500)
    page = window.page
    rows = page.locator("#rows-of-names tbody tr").count()
    page.get_by_role("link", name="Break it").click()
    toast = page.locator("#toasts > *")
    toast.wait_for()
    reference = served.events("request failed")[-1]["reference"]
    assert toast.inner_text() == f"An internal error occurred. Please try again later. Reference: {reference}"
    assert page.locator("#rows-of-names tbody tr").count() == rows
    assert page.locator("h1").count() == 1
    # Opened as a page it is a page, which names what the log has.
    window.open("/gallery/broken")
    assert served.events("request failed")[-1]["reference"] in page.locator("main").inner_text()


@pytest.mark.parametrize("width", [1280, 375])
def test_numbers_are_whole_and_within_their_cards(window: Watched, width: int) -> None:
    page = window.page
    page.set_viewport_size({"width": width, "height": 800})
    broken = page.evaluate(
        """() => [...document.querySelectorAll('.figure')].filter(figure => {
            const text = document.createRange();
            text.selectNodeContents(figure);
            const lines = new Set([...text.getClientRects()].map(rect => rect.bottom));
            return lines.size > 1 || figure.scrollWidth > figure.clientWidth;
        }).map(figure => figure.textContent)"""
    )
    assert broken == []
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.chart text, .chart .values span')].filter(label => {
            const card = label.closest('.card'), edge = card.getBoundingClientRect().left + parseFloat(getComputedStyle(card).paddingLeft);
            return label.getAttribute('text-anchor') !== 'middle' && label.getBoundingClientRect().left < edge - 1;
        }).map(label => label.textContent)"""
    )
    assert outside == []
    assert page.locator(".values span", has_text="100,000.00 credits").is_visible()
    ticks = page.locator(".chart", has=page.locator("title", has_text="Requests by status")).first.evaluate(
        """chart => [[...chart.querySelectorAll('.values span')], [...chart.querySelectorAll('.grid')]].map(marks =>
            marks.map(mark => mark.getBoundingClientRect()).map(rect => Math.round(rect.top + rect.height / 2)).sort((a, b) => a - b))"""
    )
    assert ticks[0] == pytest.approx(ticks[1], abs=1), "a label stands at its line"


def test_rows_by_keyboard(window: Watched) -> None:
    page = window.page
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator("tr[aria-selected=true]").count() == 1
    page.keyboard.press("/")
    assert page.get_by_role("searchbox").evaluate("element => element === document.activeElement")
    page.get_by_role("searchbox").blur()
    page.keyboard.press("?")
    assert page.locator("#shortcuts").is_visible()
    page.keyboard.press("Escape")
    page.locator("#shortcuts").wait_for(state="hidden")
    # Both letters at once: the second has a second and a half to come, and the machine may be busy.
    page.evaluate("for (const key of 'gh') document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))")
    page.wait_for_url(window.url + "/")


def test_a_form_with_many_mistakes_and_its_undo(window: Watched) -> None:
    window.expect(422)
    page = window.page
    page.get_by_label("Name of it").fill("<b>bold</b>")
    page.get_by_label("Size").fill("12")
    page.get_by_label("Kind").select_option("b")
    page.get_by_label("Two").check()
    page.locator("form[action='/gallery'][method=post]").evaluate("form => { form.noValidate = true }")
    page.get_by_label("Name of it").fill("a name that is longer than it may be")
    page.get_by_role("button", name="Save").click()
    assert "2 fields need another look" in page.get_by_role("alert").inner_text()
    assert page.locator("#e-size").inner_text() == "Must be at most 9."
    assert page.get_by_label("Kind").input_value() == "b"
    assert page.get_by_label("Two").is_checked()
    assert page.get_by_label("Name of it").evaluate("element => element === document.activeElement")
    page.get_by_label("Name of it").fill("<b>bold</b>")
    page.get_by_label("Size").fill("3")
    page.get_by_role("button", name="Save").click()
    assert "Saved <b>bold</b>." in page.locator("#toasts").inner_text()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("It is as it was.").wait_for()


def test_a_secret_is_gone_when_the_page_is_left(window: Watched) -> None:
    page = window.page
    page.get_by_role("button", name="Create key").click()
    assert page.get_by_label("API key").input_value() == "sk-shown-once-123"
    page.reload()
    assert page.url.endswith("/gallery")
    for go in (page.go_back, page.go_forward):
        go()
        page.get_by_role("heading", level=1).wait_for()
        assert "sk-shown-once" not in page.locator("body").inner_html()
        assert page.get_by_label("API key").count() == 0


def test_a_download_is_read_back_as_it_was_and_no_cell_is_a_formula(window: Watched) -> None:
    answer = window.page.request.get(window.url + "/gallery/names.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="names-of-today.csv"'
    rows = list(csv.reader(io.StringIO(answer.text())))
    assert rows[0] == ["number", "name"]
    assert [name for _, name in rows[1:]] == [f"'{name}" if name.startswith("=") else name for name in program.NAMES]


def test_without_scripts_lists_and_snippets_are_whole(watch: Watch, served: Appliance) -> None:
    window = watch(scripts=False, url=served.url)
    window.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    window.open("/gallery")
    window.page.get_by_role("searchbox").fill("beta")
    window.page.get_by_role("button", name="Apply").click()
    assert window.page.locator("#rows-of-names tbody tr").count() == 1
    assert window.page.locator(".snippet:visible").count() == 3
    twin = window.page.locator("table", has_text="Requests by status")
    assert twin.locator("tbody tr").all_inner_texts() == ["10:00\t30\t2", "10:30\t20\t—", "11:00\t0\t1", "11:30\t44\t9"]
