"""Endpoints: the wizard from the first click to models that somebody may call, what it says when a provider is wrong, following a
provider with consent, and deleting with what goes along."""

import http.client
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.appliance import KEY, free_port, until
from tests.browser.conftest import PASSWORD, SCREENSHOTS, Site, Watch, Watched, email_of, theme
from tests.browser.provider import Provider, provider
from tests.browser.test_every_page import look

SECRET = "sk-provider-canary-7c1f"


def fill_connection(page: Page, name: str, url: str, key: str = "", timeout: float | None = None) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("URL", exact=True).fill(url)
    if key:
        page.get_by_label("API key").first.fill(key)
    if timeout is not None:
        page.get_by_text("Advanced", exact=True).click()
        page.get_by_label("Timeout: first byte").fill(str(timeout))


def add(window: Watched, name: str, url: str, key: str = "", timeout: float | None = None) -> None:
    """Step 1 of the wizard."""
    window.open("/admin/endpoints/new")
    fill_connection(window.page, name, url, key, timeout)
    window.page.get_by_role("button", name="Test connection").click()
    window.page.wait_for_url(re.compile(r"/admin/endpoints/[0-9a-f-]+/models"))


def ask(site: Site, model: str, words: str = "hello") -> int:
    """Call a model with the site's key; the status."""
    connection = http.client.HTTPConnection("127.0.0.1", site.appliance.port, timeout=10)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": words}]})
    connection.request("POST", "/ai/v1/chat/completions", body, {"authorization": f"Bearer {KEY}", "content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def set_up(window: Watched, name: str, told: Provider, prefix: str) -> str:
    """The whole wizard for the provider's models, with aliases that begin with ``prefix``; the endpoint's path."""
    page = window.page
    add(window, name, told.url)
    for model in told.models:
        page.get_by_label(f"Alias of {model}").fill(f"{prefix}-{model}")
    page.get_by_role("button", name="Take in chosen models").click()
    page.wait_for_url("**/share")
    page.get_by_role("button", name="Share").click()
    page.wait_for_url("**/ready")
    return page.url.removesuffix("/ready").removeprefix(window.url)


@pytest.mark.parametrize("scripts", [True, False])
def test_the_wizard_leads_from_an_address_to_models_for_everyone(site: Site, watch: Watch, scripts: bool) -> None:
    window = watch(scripts=scripts)
    page, mark = window.page, "with" if scripts else "without"
    window.sign_in()
    window.open("/admin/endpoints")
    page.get_by_role("link", name="Add endpoint").click()
    page.get_by_role("link", name="Ollama", exact=True).click()
    expect(page.get_by_label("URL", exact=True)).to_have_value("http://127.0.0.1:11434")
    expect(page.get_by_label("Speaks")).to_have_value("ollama")
    page.get_by_role("link", name="Mistral", exact=True).click()
    expect(page.get_by_label("Speaks")).to_have_value("openai-chat")
    with provider() as told:
        told.key = SECRET
        fill_connection(page, f"wizard {mark}", told.url, SECRET)
        page.get_by_role("button", name="Test connection").click()
        expect(page.locator("main")).to_contain_text("with 2 models, not encrypted (http)")
        assert told.credentials == [f"Bearer {SECRET}"]
        assert SECRET not in page.content()
        # It can be left, and the list leads back to where one was.
        window.open("/admin/endpoints")
        page.get_by_role("row", name=f"wizard {mark}").get_by_role("link", name="Continue set-up").click()
        page.get_by_label("Take in beta").uncheck()
        page.get_by_label("Alias of alpha").fill(f"{mark}-alpha")
        page.get_by_role("button", name="Take in chosen models").click()
        expect(page.get_by_label("Everyone")).to_be_checked()
        page.get_by_label("Input").fill("2.50")
        page.get_by_label("Output").fill("10")
        page.get_by_role("button", name="Share").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"wizard {mark} is set up")
        assert page.get_by_role("link", name="Create an API key").get_attribute("href") == "/keys/new"
        # The credential is kept and never comes back, wherever one looks.
        page.get_by_role("link", name="See the endpoint").click()
        expect(page.get_by_role("row", name=f"{mark}-alpha")).to_contain_text("Served")
        page.get_by_role("link", name="Edit connection").click()
        assert page.get_by_label("API key").first.input_value() == ""
        assert SECRET not in page.content()
        page.get_by_role("button", name="Save connection").click()
        page.wait_for_url(re.compile(r"/admin/endpoints/[0-9a-f-]+$"))
        page.get_by_role("link", name="Compare with provider").click()
        expect(page.locator("main")).to_contain_text("1 model of this endpoint is as before")
        assert told.credentials[-1] == f"Bearer {SECRET}"
    member = watch(scripts=scripts)
    member.sign_in(email_of("StandardUser"), PASSWORD)
    member.open(f"/models?q={mark}-alpha")
    expect(member.page.get_by_role("row", name=f"{mark}-alpha")).to_contain_text("$2.50")


@pytest.mark.parametrize("scripts", [True, False])
def test_what_a_provider_speaks_is_chosen_shown_and_changed(site: Site, watch: Watch, scripts: bool) -> None:
    window = watch(scripts=scripts)
    page, name = window.page, f"speaking {scripts}"
    window.sign_in()
    with provider() as told:
        told.key = SECRET
        window.open("/admin/endpoints/new?preset=anthropic")
        expect(page.get_by_label("Speaks")).to_have_value("anthropic")
        fill_connection(page, name, told.url.removesuffix("/v1"), SECRET)
        page.get_by_role("button", name="Test connection").click()
        expect(page.locator("main")).to_contain_text("with 2 models")
        assert told.credentials == [SECRET]
        page.get_by_label("Alias of alpha").fill(f"alpha {scripts}")
        page.get_by_label("Take in beta").uncheck()
        page.get_by_role("button", name="Take in chosen models").click()
        page.get_by_role("button", name="Share").click()
        page.get_by_role("link", name="See the endpoint").click()
        expect(page.locator("main .facts")).to_contain_text("Anthropic Messages")
        expect(page.locator("main .facts")).to_contain_text("x-api-key: …")
        page.get_by_role("link", name="Edit connection").click()
        expect(page.get_by_label("Speaks")).to_have_value("anthropic")
        page.get_by_label("Speaks").select_option("ollama")
        page.get_by_role("button", name="Save connection").click()
        expect(page.locator("main .facts")).to_contain_text("Authorization: Bearer …")
        page.get_by_role("link", name="Compare with provider").click()
        expect(page.get_by_role("row", name="beta")).to_contain_text("Chat")
        page.get_by_label("Take in beta").check()
        page.get_by_label("Alias of beta").fill(f"beta {scripts}")
        page.get_by_role("button", name="Apply what is ticked").click()
        page.wait_for_url("**/share")
    window.open("/admin/endpoints")
    page.get_by_role("link", name=name).click()
    page.get_by_role("link", name=f"beta {scripts}").click()
    expect(page.get_by_label("Capabilities")).to_have_value("vision")


def test_a_set_up_that_broke_off_goes_on_where_it_was(site: Site, admin: Watched) -> None:
    page = admin.page
    add(admin, "broke off", f"http://127.0.0.1:{free_port()}/v1")
    page.get_by_text("Cannot connect to the provider").wait_for()
    # Begun again from the start, by somebody who does not know that it is there.
    admin.open("/admin/endpoints/new")
    page.get_by_role("link", name="continue with broke off").click()
    page.get_by_role("link", name="Continue by hand").click()
    page.locator("#f-names").fill("broke-off-model")
    page.get_by_role("button", name="Take in these models").click()
    page.wait_for_url("**/share")
    # The last step is refused and left: nobody may call what was taken in, and the list says so and leads on.
    admin.expect(422)
    page.get_by_label("Everyone").uncheck()
    page.get_by_role("button", name="Share").click()
    page.get_by_text("Choose at least one group.").wait_for()
    admin.open("/admin/endpoints/new")
    assert page.get_by_role("link", name="continue with broke off").count() == 0
    admin.open("/admin/endpoints")
    page.get_by_role("row", name="broke off").get_by_role("link", name="Continue set-up").click()
    page.get_by_role("button", name="Share").click()
    page.wait_for_url("**/ready")
    admin.open("/admin/endpoints")
    assert page.get_by_role("row", name="broke off").get_by_role("link", name="Continue set-up").count() == 0


FAILURES = [
    pytest.param("refused", "Cannot connect to the provider", "Check the host and the port", id="wrong-url"),
    pytest.param("key", "The provider refused the credential (HTTP 401)", "Write the API key again", id="bad-key"),
    pytest.param("list", "The provider has no model list at this URL (HTTP 404)", "name them by hand", id="no-models"),
    pytest.param("tls", "TLS handshake with the provider failed", "self-signed", id="self-signed"),
    pytest.param("hang", "The provider did not answer GET /v1/models within 1 seconds", "It may be busy", id="hang"),
]


@pytest.mark.parametrize(("what", "message", "advice"), FAILURES)
def test_each_failure_has_its_message_and_a_way_on(admin: Watched, tmp_path: Path, what: str, message: str, advice: str) -> None:
    page, name = admin.page, f"fails-{what}"
    with provider(tmp_path if what == "tls" else None) as told:
        told.key = "right" if what == "key" else None
        told.status = 404 if what == "list" else 200
        told.silent = what == "hang"
        url = "http://127.0.0.1:9/v1" if what == "refused" else told.url
        add(admin, name, url, "wrong", timeout=1 if what == "hang" else None)
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text(message)
        expect(alert).to_contain_text(advice)
        expect(page.get_by_label("URL", exact=True)).to_have_value(url)
        # By hand: what is wrong with a name is said with the name.
        page.get_by_role("link", name="Continue by hand").click()
        page.get_by_role("textbox", name="Models").fill(f"one = {name}-1\ntwo = {name}-1")
        admin.expect(409)
        page.get_by_role("button", name="Take in these models").click()
        expect(page.locator("#e-names")).to_have_text(f"two: '{name}-1' is also chosen for one. Choose another.")
        page.get_by_role("textbox", name="Models").fill(f"one = {name}-1\ntwo = {name}-2")
        page.get_by_role("button", name="Take in these models").click()
        page.wait_for_url("**/share")
        expect(page.locator("main")).to_contain_text(f"{name}-2")


def test_a_connection_that_failed_is_mended_in_place(admin: Watched) -> None:
    page = admin.page
    with provider() as told:
        told.key = SECRET
        add(admin, "mended", told.url, "wrong")
        expect(page.get_by_role("alert")).to_contain_text("refused the credential")
        page.get_by_label("API key").first.fill(SECRET)
        page.get_by_role("button", name="Save and test").click()
        expect(page.get_by_label("Alias of alpha")).to_be_visible()
        # The key is not carried to another host: whoever may change an address must not collect it there.
        page.get_by_role("link", name="Change connection").click()
        page.get_by_label("URL", exact=True).fill("http://elsewhere.example/v1")
        admin.expect(422)
        page.get_by_role("button", name="Save connection").click()
        expect(page.locator("#e-api_key")).to_contain_text("Another host is called with its own API key")


def test_an_alias_that_is_taken_is_named_with_its_holder(admin: Watched) -> None:
    page = admin.page
    admin.expect(409)
    with provider() as told:
        told.models = ["chat", "free"]
        add(admin, "clashing", told.url)
        # "chat" is a model of the site's own: another alias is put forward.
        expect(page.get_by_label("Alias of chat")).to_have_value("chat-clashing")
        expect(page.locator("tr", has=page.get_by_label("Alias of chat"))).to_contain_text("“chat” is served by sim already.")
        page.get_by_label("Alias of chat").fill("chat")
        page.get_by_label("Alias of free").fill("kept as typed")
        page.get_by_role("button", name="Take in chosen models").click()
        expect(page.get_by_role("alert")).to_contain_text("1 alias needs another look")
        expect(page.locator("tr", has=page.get_by_label("Alias of chat"))).to_contain_text(
            "'chat' is the alias of sim-chat on sim. Choose another."
        )
        expect(page.get_by_label("Alias of chat")).to_be_focused()
        expect(page.get_by_label("Alias of free")).to_have_value("kept as typed")


def test_nothing_follows_the_provider_without_consent(admin: Watched) -> None:
    page = admin.page
    with provider() as told:
        path = set_up(admin, "followed", told, "f")
        told.models = ["alpha", "gamma"]
        admin.open(path)
        page.get_by_role("link", name="Compare with provider").click()
        gone, new = page.get_by_role("region", name="Gone upstream"), page.get_by_role("region", name="Models to choose from")
        expect(gone.get_by_role("row", name="f-beta")).to_contain_text("beta")
        expect(new.get_by_role("row", name="gamma")).to_be_visible()
        expect(page.get_by_role("checkbox", checked=True)).to_have_count(0)
        admin.open(path)
        expect(page.get_by_role("row", name="f-beta")).to_contain_text("Served")
        page.get_by_role("link", name="Compare with provider").click()
        admin.expect(422)
        page.get_by_role("button", name="Apply what is ticked").click()
        expect(page.get_by_role("alert")).to_contain_text("Nothing is chosen")
        page.get_by_label("Stop serving f-beta").check()
        page.get_by_role("button", name="Apply what is ticked").click()
        expect(page.get_by_role("row", name="f-beta")).to_contain_text("Retired")
        expect(page.get_by_role("row", name="gamma")).to_have_count(0)
        # Back again, and the new one with it.
        told.models = ["alpha", "beta", "gamma"]
        page.get_by_role("link", name="Compare with provider").click()
        page.get_by_label("Serve f-beta again").check()
        page.get_by_label("Take in gamma").check()
        page.get_by_role("button", name="Apply what is ticked").click()
        page.wait_for_url("**/share")
        admin.open(path)
        expect(page.get_by_role("row", name="f-beta")).to_contain_text("Served")
        expect(page.get_by_role("link", name="gamma")).to_be_visible()


def test_a_deletion_counts_what_goes_with_it_and_wants_the_name(admin: Watched) -> None:
    page = admin.page
    admin.expect(422)
    with provider() as told:
        path = set_up(admin, "doomed", told, "d")
    admin.open(path)
    page.get_by_role("link", name="Delete", exact=True).click()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    expect(page.locator("main")).to_contain_text("2 models go with it.")
    expect(page.locator("main")).to_contain_text("Nothing has used it in the last hour.")
    page.get_by_label("Type doomed to confirm").fill("dommed")
    page.get_by_role("button", name="Delete endpoint").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not the name. Nothing was deleted")
    page.get_by_label("Type doomed to confirm").fill("doomed")
    page.get_by_role("button", name="Delete endpoint").click()
    page.wait_for_url("**/admin/endpoints")
    expect(page.get_by_role("link", name="doomed")).to_have_count(0)
    admin.open("/models?q=d-alpha")
    expect(page.get_by_role("row", name="d-alpha")).to_have_count(0)


def test_the_list_has_the_numbers_of_the_last_day(site: Site, admin: Watched) -> None:
    before = _requests(admin)
    for model, status in (("chat", 200), ("failing", 500)):
        assert ask(site, model) == status
    until(lambda: _requests(admin) == before + 2, 10, "the rollups have both requests")
    expect(admin.page.get_by_role("row", name="sim")).to_contain_text("%")


def _requests(window: Watched) -> int:
    window.open("/admin/endpoints")
    return int(window.page.get_by_role("row", name=re.compile("^sim ")).locator("td").nth(4).inner_text().replace(",", ""))


WRONG = [
    ({"Name": ""}, "name", "Fill this in"),
    ({"Name": "n" * 300}, "name", "at most 255"),
    ({"Name": "sim"}, "name", "already exists"),
    ({"URL": "ftp://host/v1"}, "url", "must start with http"),
    ({"URL": "http://169.254.169.254/v1"}, "url", "not allowed"),
    ({"URL": "http://user:secret@host/v1"}, "url", "must not hold credentials"),
    ({"Speaks": "unheard-of"}, "dialect", "must be one of openai-chat"),
    ({"API key": "schlüssel"}, "api_key", "printable ASCII"),
    ({"Header of the key": "not a header"}, "auth_header_name", "name of an HTTP header"),
    ({"Client headers to pass on": "cookie"}, "forward_headers", "never forwarded"),
    ({"Requests at once": "many"}, "max_concurrency", "whole number"),
    ({"Requests at once": "0"}, "max_concurrency", "from 1"),
    ({"Timeout: in all": "-3"}, "total_timeout", "above 0"),
    ({"Timeout: in all": "soon"}, "total_timeout", "Write a number"),
]


def test_what_is_wrong_is_said_at_its_field_and_the_rest_is_kept(watch: Watch) -> None:
    window = watch(scripts=False)
    page = window.page
    window.expect(409, 422)
    window.sign_in()
    for changed, field, sentence in WRONG:
        window.open("/admin/endpoints/new?preset=openai")
        page.get_by_text("Advanced", exact=True).click()
        values = {"Name": "never stored", "URL": "https://api.example.com/v1", "Description": "kept", **changed}
        page.locator("form[aria-label=Connection]").evaluate("form => { form.noValidate = true; }")
        for label, value in values.items():
            control = page.get_by_label(label).first
            if label == "Speaks":
                control.evaluate("(field, value) => field.add(new Option(value, value, true, true))", value)
                continue
            control.evaluate("field => field.removeAttribute('maxlength')")
            control.fill(value)
        page.get_by_role("button", name="Test connection").click()
        expect(page.locator(f"#e-{field}"), str(changed)).to_contain_text(sentence)
        expect(page.locator(f"#f-{field}")).to_have_attribute("aria-invalid", "true")
        assert page.get_by_label("Description").input_value() == "kept", changed
        assert page.locator("#f-api_key").input_value() == "", changed
        assert page.locator(f"#f-{field}").is_visible(), changed
    window.open("/admin/endpoints")
    expect(page.get_by_role("link", name="never stored")).to_have_count(0)


def test_of_two_administrators_the_second_is_told(watch: Watch) -> None:
    first, second = watch(), watch()
    second.expect(409)
    for window in (first, second):
        window.sign_in()
    with provider() as told:
        path = set_up(first, "shared desk", told, "s")
    for window in (first, second):
        window.open(f"{path}/edit")
        window.page.get_by_text("Advanced", exact=True).click()
    first.page.get_by_label("Requests at once").fill("5")
    first.page.get_by_role("button", name="Save connection").click()
    expect(first.page.locator("main")).to_contain_text("Requests at once")
    second.page.get_by_label("Requests at once").fill("7")
    second.page.get_by_role("button", name="Save connection").click()
    page = second.page
    expect(page.get_by_role("alert")).to_contain_text("Somebody else has changed this in the meantime")
    page.get_by_text("Advanced", exact=True).click()
    expect(page.get_by_label("Requests at once")).to_have_value("7")
    expect(page.locator("main")).to_contain_text("Stored now: 5")
    page.get_by_role("button", name="Save connection").click()
    page.wait_for_url(f"**{path}")
    expect(page.locator("main .facts")).to_contain_text("7")


def test_names_with_markup_are_text(admin: Watched) -> None:
    name = "<img src=x onerror=alert(1)> =1+1"
    with provider() as told:
        told.models = ['"><script>alert(1)</script>']
        path = set_up(admin, name, told, "markup")
        for address in (path, f"{path}/edit", f"{path}/models", f"{path}/delete", "/admin/endpoints"):
            admin.open(address)
            expect(admin.page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")


@pytest.mark.parametrize("name", ["light", "dark"])
def test_what_the_walk_of_all_pages_does_not_reach_is_as_readable(admin: Watched, name: str) -> None:
    """The states between the steps: no serious finding of axe, and nothing lost at 320 px."""
    page = admin.page
    admin.expect(409, 422)
    findings: list[str] = []

    def seen(what: str) -> None:
        findings.extend(look(admin, what))
        page.set_viewport_size({"width": 320, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), what
        if SCREENSHOTS:
            page.screenshot(path=f"{SCREENSHOTS}/endpoint-{what}-320-{name}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 800})
        if SCREENSHOTS:
            page.screenshot(path=f"{SCREENSHOTS}/endpoint-{what}-{name}.png", full_page=True)

    with theme(admin, name), provider() as told:
        admin.open("/admin/endpoints/new?look=1&preset=azure")
        page.get_by_text("Advanced", exact=True).click()
        seen("new")
        told.status = 404
        add(admin, f"looked-{name}", told.url, "key")
        seen("failure")
        page.get_by_role("link", name="Continue by hand").click()
        page.get_by_role("textbox", name="Models").fill("x = chat")
        page.get_by_role("button", name="Take in these models").click()
        seen("by-hand")
        told.status, told.models = 200, ["chat", "org/a-model-with-a-rather-long-name-2026-11-25"]
        page.get_by_role("link", name="Cancel").click()
        page.get_by_role("link", name="Choose models").first.click()
        page.get_by_label("Alias of chat").fill("chat")
        page.get_by_label("Alias of org").fill(f"{name}/a-model-with-a-rather-long-name-2026-11-25")
        page.get_by_role("button", name="Take in chosen models").click()
        seen("clash")
        page.get_by_label("Take in chat").uncheck()
        page.get_by_role("button", name="Take in chosen models").click()
        page.wait_for_url("**/share")
        page.get_by_label("Everyone").uncheck()
        page.get_by_role("button", name="Share").click()
        expect(page.get_by_text("Choose at least one group")).to_be_visible()
        seen("share")
    assert findings == []
