"""Forms, tokens and sessions as a person meets them: with scripts and without."""

import http.client
import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Error

from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD, KEY, Appliance, until
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, email_of, give_password

MEMBER = email_of("StandardUser")


ASK = """() => {
  document.querySelector("h1").setAttribute("data-stale", "");
  const link = Object.assign(document.createElement("a"), {id: "ask"});
  for (const [name, value] of [["hx-get", "/me"], ["hx-target", "#main"], ["hx-swap", "innerHTML"]]) link.setAttribute(name, value);
  document.body.append(link);
  htmx.process(link);
  link.click();
}"""
"""Asks for the part of a page that is in #main, as a link made by the macros does."""


CALL = """async ([url, key, stream]) => {
  const headers = {"authorization": `Bearer ${key}`, "content-type": "application/json", "x-stainless-os": "Linux", "x-dwctl-tags": "page"};
  const body = JSON.stringify({model: "chat", stream, messages: [{role: "user", content: "hello"}]});
  const answer = await fetch(`${url}/ai/v1/chat/completions`, {method: "POST", headers, body});
  const models = await fetch(`${url}/v1/models`, {headers: {"x-api-key": key, "anthropic-version": "2023-06-01"}});
  return [answer.status, !!answer.headers.get("x-request-id"), await answer.text(), models.status, !!models.headers.get("request-id")];
}"""
"""Calls a model and asks for the list of them, as a library in a page does."""


def token_of(window: Watched) -> str:
    return window.page.locator("input[name=_csrf]").first.get_attribute("value") or ""


def name_of(window: Watched) -> str:
    window.open("/me")
    return window.page.get_by_label("Name optional").input_value()


def send(window: Watched, path: str, fields: dict[str, str], **headers: str) -> int:
    """A form sent with the window's cookies; the status, without following anywhere."""
    answer = window.page.request.post(window.url + path, form=fields, headers={"accept": "text/html", **headers}, max_redirects=0)
    return answer.status


def revision_of(window: Watched) -> str:
    return window.page.locator("form[action='/me/name'] input[name=revision]").get_attribute("value") or ""


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_sign_in_save_and_sign_out(watch: Watch, scripts: bool) -> None:
    window = watch(scripts=scripts)
    window.open("/me")
    assert "/login?next=/me" in window.page.url
    window.page.get_by_label("E-mail address").fill(MEMBER)
    window.page.get_by_label("Password", exact=True).fill(PASSWORD)
    window.page.get_by_role("button", name="Sign in").click()
    window.page.wait_for_url("**/me")
    window.page.get_by_label("Name optional").fill("Grace <b>Hopper</b>")
    window.page.get_by_role("button", name="Save name").click()
    assert "Your name is saved." in window.page.locator("#toasts").inner_text()
    assert name_of(window) == "Grace <b>Hopper</b>"
    window.open("/")
    assert window.page.locator("h1").inner_text() == "Hello, Grace <b>Hopper</b>"
    assert window.page.locator("#toasts").inner_text() == ""
    window.page.get_by_role("button", name="Account of").click()
    window.page.get_by_role("button", name="Sign out").click()
    window.page.wait_for_url("**/login")
    window.open("/me")
    assert "/login" in window.page.url


def test_the_look_is_kept_and_set_by_the_server(watch: Watch) -> None:
    window = watch(scripts=False)
    window.sign_in(MEMBER, PASSWORD)
    window.open("/me")
    window.page.get_by_label("Theme", exact=True).select_option("dark")
    window.page.get_by_label("Density").select_option("compact")
    window.page.get_by_role("button", name="Save appearance").click()
    html = window.page.locator("html")
    assert (html.get_attribute("data-theme"), html.get_attribute("data-density")) == ("dark", "compact")
    window.open("/")
    assert html.get_attribute("data-theme") == "dark"
    window.page.get_by_role("button", name="Switch between light and dark").click()
    assert html.get_attribute("data-theme") == "light"


def test_the_theme_changes_without_a_reload(watch: Watch) -> None:
    window = watch(color_scheme="dark")
    window.sign_in(MEMBER, PASSWORD)
    window.open("/")
    window.page.evaluate("window.stayed = true")
    window.page.get_by_role("button", name="Switch between light and dark").click()
    assert window.page.locator("html").get_attribute("data-theme") == "light"
    assert window.page.evaluate("window.stayed")
    window.page.reload()
    assert window.page.locator("html").get_attribute("data-theme") == "light"


def test_mistakes_are_told_at_the_field_and_what_was_typed_stays(watch: Watch) -> None:
    window = watch()
    window.expect(422)
    window.sign_in(MEMBER, PASSWORD)
    window.open("/password")
    window.page.get_by_label("Present password", exact=True).fill(PASSWORD)
    window.page.get_by_label("New password", exact=True).fill("another password")
    window.page.get_by_label("New password again").fill("yet another one")
    window.page.get_by_role("button", name="Save password").click()
    repeated = window.page.get_by_label("New password again")
    assert repeated.get_attribute("aria-invalid") == "true"
    assert repeated.evaluate("element => element === document.activeElement")
    described = repeated.get_attribute("aria-describedby") or ""
    assert "not the same" in window.page.locator(f"#{described.split()[-1]}").inner_text()
    assert window.page.get_by_label("Present password", exact=True).input_value() == ""
    window.open("/me")
    long = "x" * 300
    window.page.get_by_label("Name optional").evaluate("element => element.removeAttribute('maxlength')")
    window.page.get_by_label("Name optional").fill(long)
    window.page.get_by_role("button", name="Save name").click()
    assert window.page.get_by_label("Name optional").input_value() == long
    assert "at most 255" in window.page.locator("#e-display_name").inner_text()
    assert name_of(window) != long


def test_wrong_password_and_unknown_address_look_the_same(watch: Watch) -> None:
    window = watch()
    window.expect(422)
    told = []
    for email in (MEMBER, "nobody@example.com"):
        window.open("/login?next=/me")
        window.page.get_by_label("E-mail address").fill(email)
        window.page.get_by_label("Password", exact=True).fill("wrong")
        window.page.get_by_role("button", name="Sign in").click()
        told.append(window.page.get_by_role("alert").inner_text())
        assert window.page.get_by_label("E-mail address").input_value() == email
        assert window.page.locator("input[name=next]").get_attribute("value") == "/me"
    assert told[0] == told[1] == "Invalid email or password"


@pytest.mark.parametrize("target", ["https://elsewhere.example/", "//elsewhere.example/", "/\\elsewhere.example", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(watch: Watch, target: str) -> None:
    window = watch()
    window.open("/login?" + urlencode({"next": target}))
    window.page.get_by_label("E-mail address").fill(MEMBER)
    window.page.get_by_label("Password", exact=True).fill(PASSWORD)
    window.page.get_by_role("button", name="Sign in").click()
    window.page.wait_for_url(window.url + "/")


def test_a_form_needs_the_token_of_its_own_session(watch: Watch) -> None:
    window, other, stranger = watch(), watch(), watch()
    window.sign_in(email_of("BillingManager"), PASSWORD)
    before = name_of(window)
    other.sign_in(MEMBER, PASSWORD)
    other.open("/me")
    stranger.open("/login")
    forged = {"display_name": "forged", "revision": revision_of(window)}
    assert send(window, "/me/name", forged) == 403
    for wrong in ("", "x", token_of(other), token_of(stranger)):
        assert send(window, "/me/name", {**forged, "_csrf": wrong}) == 403
    good = {**forged, "_csrf": token_of(window)}
    assert send(window, "/me/name", good, origin="https://elsewhere.example") == 403
    assert send(window, "/me/name", good, **{"sec-fetch-site": "cross-site"}) == 403
    assert name_of(window) == before
    assert send(window, "/me/name", good) == 303
    assert name_of(window) == "forged"
    by_header = {"display_name": "by a script", "revision": revision_of(window)}
    assert send(window, "/me/name", by_header, **{"x-csrf-token": token_of(window)}) == 303
    assert name_of(window) == "by a script"


def test_nobody_is_signed_in_by_a_form_of_another_site(watch: Watch) -> None:
    window = watch()
    window.open("/login")
    fields = {"email": MEMBER, "password": PASSWORD}
    assert send(window, "/login", fields) == 403
    assert send(window, "/login", {**fields, "_csrf": token_of(window)}, **{"sec-fetch-site": "cross-site"}) == 403
    assert send(window, "/login", {**fields, "_csrf": token_of(window)}) == 303


def test_pages_of_an_allowed_origin_call_models(site: Site, watch: Watch) -> None:
    window = watch()
    window.expect(401, 403)
    page = window.page
    page.goto(f"http://localhost:{site.appliance.port}/healthz")
    for stream in (False, True):
        status, has_id, text, models, has_own_id = page.evaluate(CALL, [site.url, KEY, stream])
        assert (status, has_id, models, has_own_id, "data: [DONE]" in text) == (200, True, 200, True, stream)
    status, has_id, text, models, _ = page.evaluate(CALL, [site.url, "sk-wrong", True])
    assert (status, has_id, models) == (403, True, 401)
    assert json.loads(text)["error"]["code"] == "forbidden"
    page.goto(f"http://other.localhost:{site.appliance.port}/healthz")
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(CALL, [site.url, KEY, False])
    window.forgive("asked elsewhere", "CORS policy", "ERR_FAILED", "favicon")


def test_a_form_that_is_too_old_keeps_what_was_typed(watch: Watch) -> None:
    window = watch()
    window.expect(403)
    window.sign_in(MEMBER, PASSWORD)
    window.open("/me")
    window.page.locator("form[action='/me/name'] input[name=_csrf]").evaluate("element => { element.value = 'old' }")
    window.page.get_by_label("Name optional").fill("typed long ago")
    window.page.get_by_role("button", name="Save name").click()
    assert "What you typed is still here" in window.page.get_by_role("alert").inner_text()
    assert window.page.get_by_label("Name optional").input_value() == "typed long ago"
    window.page.get_by_role("button", name="Save name").click()
    assert "Your name is saved." in window.page.locator("#toasts").inner_text()


def test_the_second_of_two_who_edit_is_told(watch: Watch) -> None:
    one, two = watch(), watch()
    two.expect(409)
    for window in (one, two):
        window.sign_in(email_of("RequestViewer"), PASSWORD)
        window.open("/me")
    one.page.get_by_label("Name optional").fill("first")
    one.page.get_by_role("button", name="Save name").click()
    one.page.wait_for_load_state()
    two.page.get_by_label("Name optional").fill("second")
    two.page.get_by_role("button", name="Save name").click()
    alert = two.page.get_by_role("alert").inner_text()
    assert "Somebody else has changed this" in alert
    assert two.page.get_by_label("Name optional").input_value() == "second"
    assert "Stored now: first" in two.page.locator("form[action='/me/name']").inner_text()
    two.page.get_by_role("button", name="Save name").click()
    assert name_of(one) == "second"


def end_sessions(site: Site, email: str) -> None:
    """End every session of somebody's, from another place."""
    connection = http.client.HTTPConnection("127.0.0.1", site.appliance.port, timeout=10)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/authentication/login", json.dumps({"email": email, "password": PASSWORD}), headers)
    answer = connection.getresponse()
    answer.read()
    headers["cookie"] = str(answer.headers["set-cookie"]).split(";")[0]
    body = json.dumps({"current_password": PASSWORD, "new_password": PASSWORD})
    connection.request("POST", "/authentication/password-change", body, headers)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_ended_session_leads_back_to_the_form_filled_by_scripts_and_says_that_nothing_was_saved(
    site: Site, watch: Watch, scripts: bool
) -> None:
    window = watch(scripts=scripts)
    email = email_of("BatchAPIUser")
    window.sign_in(email, PASSWORD)
    before, name = name_of(window), f"not lost {scripts}"
    end_sessions(site, email)
    window.page.get_by_label("Name optional").fill(name)
    window.page.get_by_role("button", name="Save name").click()
    window.page.wait_for_url("**/login**")
    assert "Your session has ended" in window.page.inner_text("main")
    window.page.get_by_label("E-mail address").fill(email)
    window.page.get_by_label("Password", exact=True).fill(PASSWORD)
    window.page.get_by_role("button", name="Sign in").click()
    window.page.wait_for_url("**/me?resume=1")
    assert window.page.get_by_label("Name optional").input_value() == (name if scripts else before)
    said = "What you typed is here again" if scripts else "Please do it again"
    assert window.page.get_by_role("alert").inner_text().startswith(f"You had been signed out, so this was not saved. {said}")
    elsewhere = watch()
    elsewhere.sign_in(email, PASSWORD)
    assert name_of(elsewhere) == before
    window.page.get_by_label("Name optional").fill(name)
    window.page.get_by_role("button", name="Save name").click()
    window.page.wait_for_load_state()
    assert name_of(elsewhere) == name
    assert window.page.get_by_role("alert").count() == 0


def test_a_part_of_a_page_and_an_ended_session(site: Site, watch: Watch) -> None:
    window = watch()
    email = email_of("ConnectionsUser")
    window.sign_in(email, PASSWORD)
    window.open("/me?x=1")
    window.page.evaluate(ASK)
    window.page.locator("[data-stale]").wait_for(state="detached")
    assert window.page.locator("h1").count() == 1
    assert window.page.locator("nav#nav").count() == 1
    end_sessions(site, email)
    window.expect(401)
    window.page.evaluate(ASK)
    window.page.wait_for_url("**/login?next=/me%3Fx%3D1&ended=1")


def test_sessions_are_listed_and_can_be_ended(watch: Watch) -> None:
    here, there = watch(), watch(user_agent="Another browser <script>")
    here.sign_in(email_of("PlatformManager"), PASSWORD)
    there.sign_in(email_of("PlatformManager"), PASSWORD)
    here.open("/me")
    row = here.page.get_by_role("row").filter(has_text="Another browser <script>").first
    row.get_by_role("button", name="End").click()
    assert "That session has ended." in here.page.locator("#toasts").inner_text()
    there.open("/me")
    assert "/login" in there.page.url
    there.sign_in(email_of("PlatformManager"), PASSWORD)
    here.open("/me")
    here.page.get_by_role("button", name="Sign out everywhere else").click()
    there.open("/me")
    assert "/login" in there.page.url


def test_a_made_password_must_be_changed_first(site: Site, watch: Watch) -> None:
    email = email_of("BackgroundInferenceUser")
    made = give_password(site.appliance, email, must_change=True)
    window = watch()
    window.sign_in(email, made)
    for path in ("/", "/me"):
        window.open(path)
        assert window.page.url.endswith("/password")
    window.page.get_by_label("Present password", exact=True).fill(made)
    window.page.get_by_label("New password", exact=True).fill(PASSWORD)
    window.page.get_by_label("New password again").fill(PASSWORD)
    window.page.get_by_role("button", name="Save password").click()
    window.page.wait_for_url(window.url + "/")
    assert window.page.locator("h1").inner_text().startswith("Hello")


def test_pages_that_are_not_there(watch: Watch) -> None:
    stranger, member = watch(), watch()
    member.sign_in(MEMBER, PASSWORD)
    for window in (stranger, member):
        window.expect(404)
        answer = window.open("/no/such/<b>page</b>")
        assert answer is not None
        assert answer.status == 404
        assert "no page at /no/such/" in window.page.inner_text("main")
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert member.page.locator("#nav").count() == 1
    for path, accept in (("/no/such", "application/json"), ("/admin/api/v1/none", "text/html"), ("/ai/v1/none", "text/html")):
        refused = stranger.page.request.get(stranger.url + path, headers={"accept": accept})
        assert (refused.status, refused.headers["content-type"]) in ((404, "application/json"), (405, "application/json")), path


def test_programs_that_ask_for_the_root_get_addresses(site: Site) -> None:
    status, body = site.appliance.get_json("/")
    assert (status, body["inference"], body["administration"]) == (200, "/ai/v1", "/admin/api/v1")


def test_files_are_kept_for_ever_under_their_own_name(site: Site, watch: Watch) -> None:
    window = watch()
    window.open("/login")
    path = window.page.locator("link[rel=stylesheet]").get_attribute("href") or ""
    request = window.page.request
    javascript = "text/javascript"
    kinds = {"app.css": "text/css", "app.js": javascript, "icons.svg": "image/svg+xml", "vendor/htmx.min.js": javascript}
    for name, media_type in kinds.items():
        answer = request.get(window.url + path.replace("app.css", name))
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
    old = request.get(window.url + "/static/0123456789abcdef/app.css")
    assert (old.status, old.headers["cache-control"]) == (200, "no-cache")
    for missing in ("../dwctl.yaml", "%2e%2e/dwctl.yaml", "none.css", "vendor/"):
        assert request.get(window.url + path.replace("app.css", missing)).status == 404


@pytest.fixture(scope="module")
def mailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """A server that writes its mail to files."""
    directory: Path = tmp_path_factory.mktemp("mailing")
    mail = {"type": "file", "path": str(directory / "out")}
    appliance = Appliance(directory, settings={"dashboard_url": "https://gateway.example/", "email": mail})
    try:
        appliance.start()
        yield appliance
    finally:
        appliance.close()


def test_a_forgotten_password(mailing: Appliance, watch: Watch) -> None:
    window = watch(url=mailing.url)
    window.expect(422)
    folder = mailing.directory / "out"
    said = []
    for email in ("nobody@example.com", ADMIN_EMAIL):
        window.open("/login")
        window.page.get_by_role("link", name="Forgotten password?").click()
        window.page.get_by_label("E-mail address").fill(email)
        window.page.get_by_role("button", name="Send the link").click()
        said.append(window.page.inner_text("main").replace(email, "..."))
    assert said[0] == said[1]
    [mail] = until(lambda: list(folder.glob("*.eml")), 20, "a mail")
    message = message_from_bytes(mail.read_bytes(), policy=policy.default)
    assert message["To"] == ADMIN_EMAIL
    text = message.get_content()
    [link] = [line for line in text.splitlines() if line.startswith("https://gateway.example/reset?link=")]
    token = link.partition("=")[2]
    assert token not in (mailing.data_dir / "dwctl.db").read_bytes().decode("latin-1")
    signed_in = watch(url=mailing.url)
    signed_in.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    window.open(f"/reset?link={token}")
    window.page.get_by_label("New password", exact=True).fill("short")
    window.page.get_by_label("New password again").fill("short")
    window.page.get_by_role("button", name="Save password").click()
    assert "at least 8" in window.page.locator("#e-new_password").inner_text()
    window.page.get_by_label("New password", exact=True).fill("a new password")
    window.page.get_by_label("New password again").fill("a new password")
    window.page.get_by_role("button", name="Save password").click()
    window.page.wait_for_url("**/login")
    signed_in.open("/me")
    assert "/login" in signed_in.page.url
    window.sign_in(ADMIN_EMAIL, "a new password")
    again = watch(url=mailing.url)
    again.open(f"/reset?link={token}")
    assert "This link has been used" in again.page.inner_text("main")


def test_without_mail_the_page_says_whom_to_ask(watch: Watch) -> None:
    window = watch()
    window.open("/forgot")
    assert "Ask an administrator" in window.page.inner_text("main")
    assert window.page.get_by_role("button", name="Send").count() == 0
