"""Rows of long lists: ticked by hand, a page at once, or all that match on every page, with scripts and without."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Site, Watch, Watched
from tests.browser.test_every_page import look
from tests.browser.test_people import create_group, fresh

MANY = 104


def make_users(site: Site, window: Watched, name: str, count: int = MANY) -> None:
    """Users named ``name-0``, ``name-1``, ..., by the API."""
    for number in range(count):
        body = {"username": f"{name}-{number}", "email": f"{name}-{number}@example.com"}
        answer = window.page.request.post(
            f"{site.url}/admin/api/v1/users", data=json.dumps(body), headers={"content-type": "application/json", "origin": site.url}
        )
        assert answer.ok, answer.text()


def listed(site: Site, window: Watched, what: str) -> Any:
    return window.page.request.get(f"{site.url}/admin/api/v1/{what}").json()


@pytest.mark.parametrize("scripts", [True, False])
def test_all_that_match_on_every_page_are_added_and_deleted(site: Site, watch: Watch, scripts: bool) -> None:
    window = watch(scripts=scripts)
    window.sign_in()
    page, name, team = window.page, fresh("many"), fresh("team")
    make_users(site, window, name)
    group_id = create_group(window, team)
    window.open(f"/admin/users?q={name}")
    assert page.locator("tbody tr").count() == 25
    page.get_by_label(f"All {MANY} that match").check()
    if scripts:
        expect(page.get_by_label(f"Tick {name}-{MANY - 1}@example.com")).to_be_disabled()
    page.get_by_label("Group", exact=True).select_option(label=team)
    page.get_by_role("button", name="Add to the group…").click()
    page.get_by_role("heading", name=f"Add {MANY} users to {team}?").wait_for()
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text(f"{MANY} of {MANY} users added.").wait_for()
    assert page.url.endswith(group_id)
    page.get_by_text(f"{MANY} users", exact=True).wait_for()
    window.open(f"/admin/users?q={name}&page=2")
    page.get_by_label(f"All {MANY} that match").check()
    page.get_by_role("button", name="Delete…").click()
    said = page.locator(".consequences").inner_text()
    assert f"{MANY} group memberships end." in said
    page.get_by_label(f"Type {MANY} users to confirm").fill(f"{MANY} users")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text(f"{MANY} users deleted.").wait_for()
    assert listed(site, window, f"users?search={name}")["total_count"] == 0


def test_a_page_is_ticked_at_once_and_what_is_unticked_stays(site: Site, admin: Watched) -> None:
    page, name = admin.page, fresh("few")
    make_users(site, admin, name, 4)
    admin.open(f"/admin/users?q={name}")
    page.get_by_label("Tick all on this page").check()
    expect(page.locator("[data-picked]")).to_have_text("4 ticked")
    page.get_by_label(f"Tick {name}-2@example.com").uncheck()
    expect(page.locator("[data-picked]")).to_have_text("3 ticked")
    assert page.locator("[data-pick-page]").evaluate("box => box.indeterminate")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("heading", name="Delete 3 users?").wait_for()
    page.get_by_text("Nothing has used them in the last hour.").wait_for()
    assert page.get_by_role("link", name="Cancel").get_attribute("href") == f"/admin/users?q={name}"
    assert look(admin, "the page that asks") == []
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    page.get_by_label("Type 3 users to confirm").fill("3 users")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("3 users deleted.").wait_for()
    assert [user["username"] for user in listed(site, admin, f"users?search={name}")["data"]] == [f"{name}-2"]


def test_nothing_ticked_is_nothing_done(admin: Watched) -> None:
    page = admin.page
    admin.open("/admin/users")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_text("Nothing is chosen").wait_for()
    page.get_by_role("main").get_by_role("link", name="Users").last.click()
    page.get_by_role("heading", name="Users", level=1).wait_for()


def test_models_and_keys_have_their_own(site: Site, admin: Watched) -> None:
    page, team = admin.page, fresh("readers")
    create_group(admin, team)
    admin.open("/admin/models")
    page.get_by_label("Tick failing").check()
    page.get_by_label("Group", exact=True).select_option(label=team)
    for act, done in (("Share", "1 of 1 model shared"), ("Take", "1 of 1 model taken")):
        page.get_by_role("button", name=f"{act} {'with' if act == 'Share' else 'from'} the group…").click()
        page.get_by_role("button", name=act, exact=True).click()
        page.get_by_text(done).wait_for()
        page.get_by_label("Tick failing").check()
        page.get_by_label("Group", exact=True).select_option(label=team)
    name = fresh("key")
    admin.open("/keys/new")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create").click()
    page.get_by_label("Secret").wait_for()
    admin.open(f"/keys?q={name}")
    page.get_by_label(f"Tick {name}").check()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_label("Type 1 API key to confirm").fill("1 API key")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("1 API key deleted.").wait_for()
