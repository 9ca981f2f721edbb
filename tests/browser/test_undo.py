"""What is taken away with one press comes back with one press, for ten seconds, with scripts and without."""

import pytest
from playwright.sync_api import expect

from tests.appliance import USER
from tests.browser.conftest import Site, Watch, Watched, found
from tests.browser.test_people import create_group, fresh


@pytest.mark.parametrize("scripts", [True, False])
def test_a_member_and_a_model_come_back(site: Site, watch: Watch, scripts: bool) -> None:
    window = watch(scripts=scripts)
    window.sign_in()
    page = window.page
    group_id = create_group(window, fresh("undone"))
    page.get_by_label("E-mail address").fill(USER)
    page.get_by_role("button", name="Add member").click()
    page.get_by_label("Model", exact=True).select_option(label="chat")
    page.get_by_role("button", name="Add model").click()
    for table, row in (("Members", USER), ("Models", "chat")):
        shown = page.get_by_role("region", name=table).get_by_role("row", name=row)
        shown.get_by_role("button", name="Remove").click()
        expect(shown).to_have_count(0)
        page.locator("#toasts").get_by_role("button", name="Undo").click()
        page.get_by_text("It is as it was before.").wait_for()
        assert page.url == f"{site.url}/admin/groups/{group_id}"
        expect(shown).to_have_count(1)


def test_the_offer_leaves_the_page_when_it_ends_even_under_the_pointer(site: Site, admin: Watched) -> None:
    page = admin.page
    create_group(admin, fresh("late"))
    page.get_by_label("E-mail address").fill(USER)
    page.get_by_role("button", name="Add member").click()
    page.get_by_text("is a member.").wait_for()
    page.clock.install()
    page.get_by_role("row", name=USER).get_by_role("button", name="Remove").click()
    offer = page.locator("#toasts").get_by_role("button", name="Undo")
    offer.wait_for()
    offer.focus()
    page.clock.fast_forward(9_000)
    expect(offer).to_be_visible()
    page.clock.fast_forward(1_100)
    expect(offer).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_cell_that_was_emptied_offers_to_be_filled_again(site: Site, admin: Watched) -> None:
    page, name = admin.page, fresh("cell")
    group_id = create_group(admin, name)
    model_id = found(site, "models?search=failing", "alias", "failing")
    admin.open("/admin/access")
    box, held = page.get_by_label(f"{name} may call failing"), page.locator(f"input[name=before][value='{group_id}:{model_id}']")
    box.check()
    expect(held).to_have_count(1)
    assert page.locator("#toasts").get_by_role("button", name="Undo").count() == 0
    box.uncheck()
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    page.get_by_text("It is as it was before.").wait_for()
    assert box.is_checked()
