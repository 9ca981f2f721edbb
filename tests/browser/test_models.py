"""Models: what users find in the catalogue, sections that are saved one at a time, prices with their versions, two administrators at one
model, and deleting."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.appliance import until
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, email_of, found
from tests.browser.provider import provider
from tests.browser.test_endpoints import ask, set_up


@pytest.fixture(scope="module")
def served(site: Site) -> None:
    """Models of this module's own, which the tests change."""
    prices = [{"input_per_million": "1", "output_per_million": "2"}]
    names = ("tuned", "desk", "priced", "private", "gone")
    described = [
        {
            "alias": name,
            "endpoint": "sim",
            "model_name": "sim-chat?input=100&tokens=10",
            "groups": [] if name == "private" else ["Everyone"],
            "prices": [] if name == "private" else prices,
        }
        for name in names
    ]
    site.appliance.apply({"models": described})
    until(lambda: ask(site, "tuned") == 200, 10, "the server knows the models")


def manage(window: Watched, site: Site, alias: str, section: str) -> None:
    window.open(f"/admin/models/{found(site, f'models?search={alias}', 'alias', alias)}/{section}")


def test_the_catalogue_is_searched_sorted_and_kept_in_the_address(site: Site, admin: Watched, served: None) -> None:
    page = admin.page
    manage(admin, site, "tuned", "identity")
    page.get_by_label("Title").fill("A tuned model")
    page.get_by_label("Description").fill("For **long** texts. <script>alert(1)</script>")
    page.get_by_label("Capabilities").fill("vision, tools")
    page.get_by_label("Context").fill("128000")
    page.get_by_role("button", name="Save identity").click()
    expect(page.get_by_role("status")).to_contain_text("The identity is saved.")
    admin.open("/models")
    page.get_by_label("Search models").fill("tuned")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    page.wait_for_url("**q=tuned**")
    row = page.get_by_role("row", name="tuned")
    expect(row).to_contain_text("128 k")
    expect(row).to_contain_text("vision")
    expect(row).to_contain_text("$1.00")
    page.get_by_label("Capability").select_option("vision")
    page.wait_for_url("**capability=vision**")
    page.reload()
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page.get_by_label("Capability")).to_have_value("vision")
    page.get_by_role("link", name="tuned", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("A tuned model")
    expect(page.locator(".prose strong")).to_have_text("long")
    expect(page.locator(".prose")).to_contain_text("<script>alert(1)</script>")
    expect(page.locator(".snippet").first).to_contain_text('"model": "tuned"')
    admin.open("/models?sort=-price")
    assert page.get_by_role("columnheader", name="Input").get_attribute("aria-sort") == "descending"


def test_a_model_that_cannot_be_used_says_why_and_how_that_is_mended(site: Site, admin: Watched, watch: Watch, served: None) -> None:
    page = admin.page
    member = watch()
    member.expect(404)
    member.sign_in(email_of("StandardUser"), PASSWORD)
    model = found(site, "models?search=private", "alias", "private")
    member.open("/models?q=private")
    expect(member.page.locator("main")).to_contain_text("Models that are not shared with any of your groups are not shown here.")
    member.open(f"/models/{model}")
    expect(member.page.get_by_role("heading", level=1)).to_have_text("Nothing is here")
    admin.open("/models?q=private")
    page.get_by_role("link", name="Not shared with you").click()
    expect(page.locator("main")).to_contain_text("None of your groups may call it.")
    page.get_by_role("link", name="Share it").click()
    page.get_by_label("Everyone").check()
    page.get_by_role("button", name="Save access").click()
    expect(page.get_by_role("status")).to_contain_text("Access is saved.")
    member.open(f"/models/{model}")
    expect(member.page.get_by_role("heading", level=1)).to_have_text("private")
    expect(member.page.locator("main")).not_to_contain_text("Why can't I use it?")
    member.open(f"/models/{found(site, 'models?search=priced', 'alias', 'priced')}")
    expect(member.page.locator("main")).to_contain_text("Calling it costs credits, and your balance is used up.")


def test_a_new_price_begins_a_new_version_and_what_was_charged_stays(site: Site, admin: Watched, served: None) -> None:
    page = admin.page
    spent = _spent(admin, site)
    assert ask(site, "priced") == 200
    until(lambda: _spent(admin, site) == spent + 0.00012, 10, "100 tokens in at 1 and 10 out at 2 per million are charged")
    manage(admin, site, "priced", "pricing")
    page.get_by_label("Input").fill("3")
    page.get_by_label("Output").fill("0.5")
    page.get_by_label("Cache read").fill("0.1")
    page.get_by_role("button", name="Begin this price").click()
    expect(page.get_by_role("status")).to_contain_text("The new price holds from the next request on.")
    versions = page.get_by_role("region", name="Versions").locator("tbody tr")
    expect(versions).to_have_count(2)
    expect(versions.nth(0)).to_contain_text("In force")
    expect(versions.nth(0)).to_contain_text("$3.00")
    expect(versions.nth(0)).to_contain_text("$0.10")
    expect(versions.nth(1)).to_contain_text("$1.00")
    expect(versions.nth(1)).not_to_contain_text("In force")
    assert ask(site, "priced") == 200
    until(lambda: _spent(admin, site) == spent + 0.00012 + 0.000305, 10, "the second request has the new price, the first its own")
    # The same price again is no new version.
    manage(admin, site, "priced", "pricing")
    page.get_by_role("button", name="Begin this price").click()
    expect(page.get_by_role("status")).to_contain_text("This is the price that holds already.")
    expect(versions).to_have_count(2)
    # Another purpose has a price of its own, which can end again.
    page.get_by_role("navigation", name="Purposes").get_by_role("link", name="Playground").click()
    expect(page.locator("main")).to_contain_text("There is no price of its own: the one for API keys holds here too.")
    page.get_by_label("Input").fill("0")
    page.get_by_role("button", name="Begin this price").click()
    expect(versions).to_have_count(3)
    page.get_by_role("button", name="End this price").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.get_by_role("dialog").get_by_role("button", name="End this price").click()
    expect(page.get_by_role("status")).to_contain_text("The price has ended.")
    expect(versions.filter(has_text="In force")).to_have_count(1)


def test_usage_stays_with_a_model_that_is_renamed(site: Site, admin: Watched, served: None) -> None:
    page = admin.page

    def rename(before: str, after: str) -> None:
        manage(admin, site, before, "identity")
        page.get_by_label("Alias").fill(after)
        page.get_by_role("button", name="Save identity").click()
        expect(page.get_by_role("status")).to_contain_text("The identity is saved.")

    def used(alias: str) -> str:
        manage(admin, site, alias, "usage")
        return page.locator(".tile", has_text="Requests").locator(".figure").inner_text()

    assert ask(site, "desk") == 200
    until(lambda: used("desk") == "1", 10, "the request is added up")
    rename("desk", "renamed")
    assert used("renamed") == "1"
    rename("renamed", "desk")


def _spent(window: Watched, site: Site) -> float:
    """What the model has cost in all, in credits, from its usage page."""
    manage(window, site, "priced", "usage")
    return round(float(window.page.locator(".tile", has_text="Cost").locator("data").get_attribute("value") or 0), 9)


def test_the_second_of_two_administrators_learns_who_changed_what_and_keeps_what_was_typed(site: Site, watch: Watch, served: None) -> None:
    first, second = watch(), watch()
    second.expect(409)
    first.sign_in(email_of("PlatformManager"), PASSWORD)
    second.sign_in()
    for section, label, button, values in (
        ("identity", "Title", "Save identity", ("From the first", "From the second")),
        ("limits", "Requests at once", "Save limits", ("5", "7")),
        ("pricing", "Input", "Begin this price", ("5", "7")),
    ):
        for window in (first, second):
            manage(window, site, "desk", section)
        first.page.get_by_label(label, exact=False).first.fill(values[0])
        first.page.get_by_role("button", name=button).click()
        expect(first.page.locator(".toast")).to_be_visible()
        page = second.page
        page.get_by_label(label, exact=False).first.fill(values[1])
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("alert")).to_contain_text("Somebody else has changed this in the meantime")
        expect(page.locator("main")).to_contain_text(f"{email_of('PlatformManager')} changed it")
        expect(page.locator("main")).to_contain_text(f"Stored now: {values[0]}")
        expect(page.get_by_label(label, exact=False).first).to_have_value(values[1])
        page.get_by_role("button", name=button).click()
        expect(page.locator(".toast")).to_be_visible()
        manage(first, site, "desk", section)
        expect(first.page.get_by_label(label, exact=False).first).to_have_value(values[1])
    # Access is compared by what each of them saw.
    for window in (first, second):
        manage(window, site, "desk", "access")
    first.page.get_by_label("Everyone").uncheck()
    first.page.get_by_role("button", name="Save access").click()
    expect(first.page.locator(".toast")).to_be_visible()
    second.page.get_by_role("button", name="Save access").click()
    expect(second.page.locator("main")).to_contain_text("Stored now: nobody")
    expect(second.page.get_by_label("Everyone")).to_be_checked()


WRONG = [
    ("identity", {"Alias": ""}, "alias", "Fill this in"),
    ("identity", {"Alias": "chat"}, "alias", "already in use"),
    ("identity", {"Alias": "a" * 300}, "alias", "at most 255"),
    ("identity", {"Provider's name": " "}, "model_name", "Fill this in"),
    ("identity", {"Context": "big"}, "context_window", "whole number"),
    ("identity", {"Context": "0"}, "context_window", "from 1"),
    ("limits", {"Requests per second": "-1"}, "requests_per_second", "from 0.000001 to 1000000000"),
    ("limits", {"Requests per second": "nan"}, "requests_per_second", "from 0.000001 to 1000000000"),
    ("limits", {"Burst": "1.5"}, "burst_size", "whole number"),
    ("limits", {"Output of a request": "99999999999"}, "max_output_tokens", "whole number"),
    ("pricing", {"Input": "", "Output": ""}, "input_price", "Write a price"),
    ("pricing", {"Input": "-1"}, "input_price", "zero or more"),
    ("pricing", {"Input": "cheap"}, "input_price", "not a decimal number"),
    ("pricing", {"Output": "0.0000001"}, "output_price", "finer than one pico-credit"),
    ("pricing", {"Cache write 1 h": "1e40"}, "cache_write_1h_price", "too large"),
    ("pricing", {"Per request": "0.0000000000001"}, "request_price", "finer than one pico-credit"),
]


def test_what_is_wrong_is_said_at_its_field_and_nothing_is_stored(site: Site, watch: Watch, served: None) -> None:
    window = watch(scripts=False)
    page = window.page
    window.expect(409, 422)
    window.sign_in()
    for section, changed, field, sentence in WRONG:
        manage(window, site, "tuned", section)
        before = _revision(page)
        page.locator("main form").first.evaluate("form => { form.noValidate = true; }")
        for label, value in changed.items():
            control = page.get_by_label(label).first
            control.evaluate("field => field.removeAttribute('maxlength')")
            control.fill(value)
        page.locator("main form button.primary").click()
        expect(page.locator(f"#e-{field}"), str(changed)).to_contain_text(sentence)
        expect(page.get_by_label(list(changed)[-1]).first, str(changed)).to_have_value(list(changed.values())[-1])
        manage(window, site, "tuned", section)
        assert _revision(page) == before, changed


def _revision(page: Page) -> str | None:
    return page.locator("main input[name=revision]").first.get_attribute("value")


def test_a_model_is_deleted_once_its_alias_is_typed(site: Site, admin: Watched, served: None) -> None:
    page = admin.page
    admin.expect(422)
    assert ask(site, "gone") == 200
    manage(admin, site, "gone", "danger")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    expect(page.locator("main")).to_contain_text("1 group loses access to it.")
    page.get_by_label("Type gone to confirm").fill("Gone")
    page.get_by_role("button", name="Delete model").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not the name. Nothing was deleted")
    page.get_by_label("Type gone to confirm").fill("gone")
    page.get_by_role("button", name="Delete model").click()
    page.wait_for_url("**/admin/models")
    expect(page.get_by_role("link", name="gone", exact=True)).to_have_count(0)
    assert ask(site, "gone") == 404


def test_the_list_shows_what_is_lacking(admin: Watched) -> None:
    page = admin.page
    with provider() as told:
        told.models = ["lonely"]
        path = set_up(admin, "lacking", told, "lack")
        admin.open("/admin/models?lacking=price")
        expect(page.get_by_role("row", name="lack-lonely")).to_contain_text("free")
        expect(page.get_by_role("row", name=re.compile("^chat"))).to_have_count(0)
        told.models = ["other"]
        admin.open(f"{path}/models")
        page.get_by_label("Stop serving lack-lonely").check()
        page.get_by_role("button", name="Apply what is ticked").click()
        page.wait_for_url(f"**{path}")
    admin.open("/admin/models")
    page.get_by_label("Lacking").select_option("provider")
    page.wait_for_url("**lacking=provider**")
    expect(page.get_by_role("row", name="lack-lonely")).to_contain_text("Retired")
    expect(page.get_by_role("row", name=re.compile("^chat"))).to_have_count(0)
    page.get_by_role("link", name="lack-lonely").click()
    page.get_by_role("link", name="As users see it").click()
    expect(page.locator("main")).to_contain_text("Its provider does not list it any more, so it is served to nobody.")
