"""Search and go, and the keys: pages, actions, things and ids; never what somebody may not see."""

import re

from playwright.sync_api import expect

from tests.appliance import USER
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, email_of, logged


def test_the_palette_finds_pages_actions_things_and_ids(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.open("/me")
    page.keyboard.press("Control+k")
    options = page.locator("#palette [role=option]")
    field = page.get_by_role("combobox", name="Go to")
    expect(field).to_be_focused()
    expect(options.filter(has_text="Billing")).to_have_count(1)
    for text, target in (
        ("new use", "/admin/users/new"),
        ("dev@exam", "/admin/users/"),
        ("everyo", "/admin/groups/"),
        ("chat", "/models/"),
        (logged(site), f"/requests/{logged(site)}"),
    ):
        field.fill(text)
        expect(options.first).to_have_attribute("href", re.compile(f"^{target}"))
        expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/requests/{logged(site)}")


def test_arrows_choose_and_escape_closes(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.open("/me")
    page.keyboard.press("/")
    chosen = page.locator("#palette [aria-selected=true]")
    expect(chosen).to_have_count(1)
    first = chosen.inner_text()
    page.keyboard.press("ArrowDown")
    assert chosen.inner_text() != first
    page.keyboard.press("ArrowUp")
    assert chosen.inner_text() == first
    assert page.locator("#palette-field").get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_hidden()


def test_nothing_is_found_that_somebody_may_not_see(site: Site, watch: Watch) -> None:
    window = watch()
    window.sign_in(email_of("StandardUser"), PASSWORD)
    for text in (USER, "sim", "new user", "Everyone", "Access", "System", logged(site)):
        window.open(f"/search?q={text}")
        found = [str(option.get_attribute("href")) for option in window.page.locator("main a[role=option]").all()]
        assert [href for href in found if not href.startswith("/models/")] == [], text


def test_the_palette_is_a_page_without_scripts(site: Site, watch: Watch) -> None:
    window = watch(scripts=False)
    window.sign_in()
    window.open("/")
    window.page.get_by_role("link", name="Go anywhere").click()
    window.page.get_by_label("Search everything").fill("Billing")
    window.page.get_by_role("button", name="Search").click()
    window.page.locator("main").get_by_text("Billing", exact=True).click()
    window.page.get_by_role("heading", name="Billing").wait_for()


def test_letters_go_and_are_left_alone_where_somebody_types(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.open("/me")
    page.keyboard.type("gu")  # one after the other at once: the second has a second and a half to come
    page.wait_for_url("**/admin/users")
    page.keyboard.press("/")
    expect(page.get_by_label("Search users")).to_be_focused()
    page.keyboard.type("gu?")
    assert page.get_by_label("Search users").input_value() == "gu?"
    admin.open("/admin/users")
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("[data-row][aria-selected=true]")).to_have_count(1)
    page.keyboard.press("o")
    page.wait_for_url("**/admin/users/*")
    page.go_back()
    page.keyboard.press("c")
    page.wait_for_url("**/admin/users/new")


def test_letters_do_nothing_when_they_are_switched_off(site: Site, admin: Watched) -> None:
    page = admin.page
    page.context.add_cookies([{"name": "ui", "value": "auto.comfortable.off", "url": site.url}])
    admin.open("/me")
    page.keyboard.press("?")
    page.keyboard.type("gu")  # one after the other at once: the second has a second and a half to come
    expect(page.locator("#shortcuts")).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.locator("#palette")).to_be_visible()
    assert page.url.endswith("/me")
