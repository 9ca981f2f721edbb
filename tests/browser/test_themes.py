"""Themes, density, forced colours: a page never appears in another theme, and nothing is told by a colour of the background alone."""

import base64
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Site, Watch, Watched, logged
from tests.browser.test_every_page import pages

ALIKE = 0.002
"""The share of pixels by which two pictures of one page may differ: a caret, the edge of a letter."""

Difference = Callable[[bytes, bytes], float]

_DIFFERENCE = """async (pictures) => {
  const [one, other] = await Promise.all(pictures.map(async (encoded) => {
    const picture = new Image();
    picture.src = "data:image/png;base64," + encoded;
    await picture.decode();
    const canvas = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    return canvas.getImageData(0, 0, picture.width, picture.height);
  }));
  if (one.width !== other.width || one.height !== other.height) return 1;
  let different = 0;
  for (let at = 0; at < one.data.length; at += 4)
    if ([0, 1, 2].some((channel) => Math.abs(one.data[at + channel] - other.data[at + channel]) > 24)) different++;
  return different / (one.data.length / 4);
}"""


@pytest.fixture
def difference(browser: Browser) -> Difference:
    """The share of pixels in which two pictures differ."""
    page = browser.new_page()

    def compare(one: bytes, other: bytes) -> float:
        return float(page.evaluate(_DIFFERENCE, [base64.b64encode(picture).decode() for picture in (one, other)]))

    return compare


def prefer(window: Watched, theme: str, density: str = "comfortable") -> None:
    window.page.context.add_cookies([{"name": "ui", "value": f"{theme}.{density}.on", "url": window.url}])


def taken(window: Watched, path: str) -> bytes:
    window.open(path)
    window.page.wait_for_load_state("networkidle")
    return window.page.screenshot(animations="disabled", caret="hide")


@pytest.mark.parametrize("path", ["/login", "/docs/billing", "/admin/access", "/keys/new"])
def test_a_theme_looks_like_itself_and_not_like_the_other(site: Site, watch: Watch, difference: Difference, path: str) -> None:
    pictures: dict[tuple[str, str, str], bytes] = {}
    densities = ("comfortable", "compact") if path == "/keys/new" else ("comfortable",)  # compact changes sizes, and no colour
    for system in ("light", "dark"):
        window = watch(color_scheme=system)
        if path != "/login":
            window.sign_in()
        for chosen in ("light", "dark", "auto"):
            for density in densities:
                prefer(window, chosen, density)
                pictures[system, chosen, density] = taken(window, path)
    for density in densities:
        light, dark = pictures["light", "light", density], pictures["dark", "dark", density]
        assert difference(light, pictures["dark", "light", density]) <= ALIKE, "whatever the system prefers"
        assert difference(dark, pictures["light", "dark", density]) <= ALIKE
        assert difference(light, pictures["light", "auto", density]) <= ALIKE, "as the system prefers"
        assert difference(dark, pictures["dark", "auto", density]) <= ALIKE
        assert difference(light, dark) > 0.5


@pytest.mark.parametrize(("system", "chosen", "shown"), [("light", "dark", "dark"), ("dark", "light", "light"), ("dark", "auto", "dark")])
@pytest.mark.parametrize("path", ["/login", "/keys/new"])
def test_a_page_is_never_blank_in_another_theme(
    site: Site, watch: Watch, browser: Browser, difference: Difference, system: str, chosen: str, shown: str, path: str
) -> None:
    """Also before it has its style sheet: the canvas is dark exactly if the page will be."""
    window = watch(color_scheme=system)
    if path != "/login":
        window.sign_in()
    prefer(window, chosen)
    page = window.page
    page.route("**/app.css", lambda route: route.abort())
    window.open(path)
    assert page.locator("html").get_attribute("data-theme") == chosen
    corner = {"x": 1180, "y": 700, "width": 90, "height": 90}
    bare = page.screenshot(clip=corner)
    window.complaints.clear()
    blank = watch(color_scheme=shown).page
    blank.set_content('<meta name="color-scheme" content="light dark">')
    assert difference(bare, blank.screenshot(clip=corner)) == 0


# Boxes that one tells from what is around them by their background.
_BOXES = """() => {
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$|transparent/.test(color)) return color;
    }
  };
  window.boxes = [...document.querySelectorAll("body *")].filter((element) =>
    element.checkVisibility({ visibilityProperty: true }) && !element.closest("svg, .visually-hidden, dialog:not([open])")
    && element.parentElement && ground(element) !== ground(element.parentElement));
}"""
# Which of them nothing tells any more where the system chooses the colours.
_LOST = """(apart) => window.boxes.filter((element) => {
  const style = getComputedStyle(element), border = (side, what) => style[`border${side}${what}`];
  const edge = (side) => parseFloat(border(side, "Width")) > 0 && border(side, "Style") !== "none"
    && border(side, "Color") !== style.backgroundColor;
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return !ring && !["Top", "Right", "Bottom", "Left"].some(edge) && !element.closest(apart);
}).map((element) => element.outerHTML.slice(0, 140))"""
APART = "th, tfoot, .prose pre, figure.snippet, .nav, body > .top, .table tr:hover"
"""What is told by its place, its letters or its frame as well, and what only follows the pointer."""

# What is chosen, and looks like what is beside it apart from its colours.
_SAME = """() => [...document.querySelectorAll("[aria-current], main [aria-selected=true]")].filter((chosen) => {
  const look = (element) => {
    const style = getComputedStyle(element);
    return ["fontWeight", "outlineStyle", "borderBottomStyle", "borderBottomWidth", "textDecorationLine"].map((name) => style[name]).join();
  };
  const item = chosen.closest("li") ?? chosen;
  return [...item.parentElement.children].some((other) => {
    const beside = item === chosen ? other : other.querySelector(chosen.tagName);
    return other !== item && beside?.tagName === chosen.tagName && look(beside) === look(chosen);
  });
}).map((element) => element.outerHTML.slice(0, 140))"""

# Marks of charts that cannot be seen, or not be told from those of another series.
_MARKS = """() => {
  const canvas = getComputedStyle(document.body).backgroundColor, found = [];
  for (const mark of document.querySelectorAll("svg rect[class], svg .line, svg .dot, svg .arc")) {
    if (!mark.checkVisibility()) continue;
    const style = getComputedStyle(mark);
    if ([style.fill, style.stroke].every((color) => color === canvas || color === "none")) found.push(mark.outerHTML.slice(0, 100));
  }
  for (const legend of document.querySelectorAll(".legend")) {
    const colors = [...legend.querySelectorAll("rect")].map((rect) => getComputedStyle(rect).fill);
    if (new Set(colors).size !== colors.length) found.push(`one colour for several series: ${colors}`);
  }
  return found;
}"""


def forced(page: Page) -> list[str]:
    """What cannot be seen any more when the system chooses the colours."""
    page.evaluate(_BOXES)
    page.emulate_media(forced_colors="active")
    lost = [f"background alone: {html}" for html in page.evaluate(_LOST, APART)]
    lost += [f"chosen and not chosen look alike: {html}" for html in page.evaluate(_SAME)]
    lost += [f"mark: {html}" for html in page.evaluate(_MARKS)]
    page.emulate_media(forced_colors="none")
    return lost


@pytest.mark.timeout(300)
def test_nothing_is_told_by_a_background_alone(site: Site, watch: Watch) -> None:
    """Forced colours (CSS Color Adjustment 1): the system's few colours replace the page's."""
    logged(site)
    window = watch(reduced_motion="reduce")
    window.sign_in()
    lost = []
    for path in pages(site):
        window.open(path)
        for system in ("light", "dark"):
            window.page.emulate_media(color_scheme=system)
            lost += [f"{path}, {system}: {found}" for found in forced(window.page)]
    assert "\n".join(lost) == ""


@pytest.mark.parametrize("system", ["light", "dark"])
def test_what_is_chosen_and_what_has_the_focus_is_framed(site: Site, watch: Watch, system: str) -> None:
    logged(site)
    window = watch(forced_colors="active", color_scheme=system)
    window.sign_in()
    page = window.page

    def framed(locator: Locator) -> None:
        expect(locator).to_have_css("outline-style", "solid")
        look = "element => [getComputedStyle(element).outlineColor, getComputedStyle(document.body).backgroundColor]"
        ring, ground = locator.evaluate(look)
        assert ring != ground
        assert float(locator.evaluate("element => parseFloat(getComputedStyle(element).outlineWidth)")) >= 2

    window.open("/requests")
    page.keyboard.press("j")
    framed(page.locator("tr[data-row][aria-selected=true]"))
    page.keyboard.press("Control+k")
    framed(page.locator("#palette [role=option][aria-selected=true]"))
    page.keyboard.press("Escape")
    window.open("/keys/new")
    for name in ("Name", "Note"):
        expect(page.get_by_label(name).first).to_have_css("border-style", "solid")
    for _ in range(6):
        framed(page.locator(":focus"))
        page.keyboard.press("Tab")
    window.open("/playground?model=chat")
    page.get_by_label("Message").fill("Hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn .asked")).to_have_css("border-style", "solid")
    expect(page.locator(".turn .answer").first).to_have_css("border-style", "solid")


def test_compact_rows_are_lower(site: Site, watch: Watch) -> None:
    window = watch()
    window.sign_in()
    heights = {}
    for density in ("comfortable", "compact"):
        prefer(window, "auto", density)
        window.open("/admin/endpoints")
        box = window.page.locator("tbody tr").first.bounding_box()
        assert box is not None
        heights[density] = box["height"]
    assert heights["compact"] <= heights["comfortable"] - 6
