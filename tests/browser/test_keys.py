"""API keys: made, shown once, tried as the page says, limited, rotated with an overlap, deleted with what that ends."""

import json
import re
import sqlite3
import subprocess
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.appliance import until
from tests.browser.conftest import PASSWORD, Site, Watch, Watched
from tests.browser.talking import MEMBER, call, recorded, talking

__all__ = ["talking"]

SECRET = re.compile(r"sk-[A-Za-z0-9_-]{43}")


@pytest.fixture
def member(talking: Site, watch: Watch) -> Watched:
    window = watch()
    window.sign_in(MEMBER, PASSWORD)
    return window


def create(window: Watched, name: str, **fields: str) -> str:
    """Make a key by the form; its secret."""
    window.open("/keys/new")
    window.page.get_by_label("Name").fill(name)
    for label, value in fields.items():
        window.page.get_by_label(label.replace("_", " ")).fill(value)
    window.page.get_by_role("button", name="Create key").click()
    return window.page.get_by_label("Secret key").input_value()


def key_id(window: Watched) -> str:
    return window.page.url.rstrip("/").rsplit("/", 1)[1]


def in_database(site: Site, text: str) -> bool:
    """Whether a text is anywhere in what the server keeps on disk."""
    return any(text.encode() in file.read_bytes() for file in site.appliance.data_dir.rglob("*") if file.is_file())


def test_the_secret_is_shown_once_and_is_nowhere_afterwards(talking: Site, member: Watched) -> None:
    """Check 2."""
    secret = create(member, "shown once")
    page = member.page
    assert SECRET.fullmatch(secret)
    assert call(talking, secret)[0] == 200
    shown = page.url
    assert secret in page.content()
    address = key_id(member)
    page.reload()
    expect(page.get_by_role("heading", name="shown once")).to_be_visible()
    assert secret not in page.content()
    page.get_by_role("link", name="API keys").first.click()
    page.wait_for_url("**/keys")
    page.go_back()
    page.wait_for_url(shown)
    assert secret not in page.content()
    page.go_back()
    assert secret not in page.content()
    member.open(f"/keys/{address}")
    assert secret not in page.content()
    again = page.context.new_page()
    again.goto(f"{talking.url}/keys/{address}")
    assert secret not in again.content()
    assert secret not in json.dumps(page.evaluate("() => [{...sessionStorage}, {...localStorage}, document.cookie]"))
    assert not in_database(talking, secret)
    assert secret not in talking.appliance.log.read_text()


def test_the_answer_with_the_secret_must_not_be_kept(member: Watched) -> None:
    member.open("/keys/new")
    member.page.get_by_label("Name").fill("kept by nobody")
    with member.page.expect_response(lambda answer: answer.request.method == "POST") as awaited:
        member.page.get_by_role("button", name="Create key").click()
    headers = awaited.value.headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_shown_curl_runs_as_it_is_and_is_recorded(talking: Site, member: Watched, admin: Watched) -> None:
    create(member, "for a shell")
    page = member.page
    snippet = page.get_by_role("tabpanel", name="curl").locator("code").inner_text()
    done = subprocess.run(["bash", "-c", snippet], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
    key = key_id(member)

    def look() -> list[dict[str, Any]]:
        answer = admin.page.request.get(f"{talking.url}/admin/api/v1/requests", params={"limit": 100})
        return [entry for entry in answer.json()["entries"] if entry["api_key_id"] == key]

    [entry] = until(look, 10, "the request in the log")
    assert entry["status_code"] == 200
    assert entry["request_origin"] == "api"
    member.open(f"/keys/{key}")
    expect(page.locator("dt", has_text="Last used").locator("+ dd")).not_to_have_text("never")


def test_a_test_request_shows_the_answer_and_leads_to_the_request(member: Watched, admin: Watched) -> None:
    create(member, "tried out")
    page = member.page
    secret = page.get_by_label("Secret key").input_value()
    page.get_by_label("Model").select_option("free")
    page.get_by_role("button", name="Send test request").click()
    link = page.get_by_role("link", name="Open the request")
    expect(link).to_be_visible()
    expect(page.locator(".answer-card .prose")).not_to_be_empty()
    assert page.get_by_label("Secret key").input_value() == secret, "the secret is still there"
    entry = recorded(admin, str(link.get_attribute("href")).rsplit("/", 1)[1])
    assert entry["api_key_id"] == key_id(member)
    assert entry["status_code"] == 200
    assert entry["request_origin"] == "frontend"


def test_a_test_request_that_fails_says_why(member: Watched) -> None:
    create(member, "tried in vain")
    member.page.get_by_label("Model").select_option("failing")
    member.page.get_by_role("button", name="Send test request").click()
    expect(member.page.locator(".answer-card [role=alert]")).to_contain_text("answers 500")


def test_limits_hold_and_the_list_says_them(talking: Site, member: Watched) -> None:
    """Check 23, of the limits that keys have: rate, concurrency and end."""
    secret = create(member, "limited", Rate_limit="0.01", Burst="1", Concurrency="3", Last_day="2031-05-06")
    assert call(talking, secret)[0] == 200
    status, answer, _ = call(talking, secret)
    assert (status, answer["error"]["code"]) == (429, "rate_limit")
    member.open("/keys?q=limited")
    row = member.page.get_by_role("row", name="limited")
    expect(row).to_contain_text("0.01/s, burst 1 · 3 at a time")
    expect(row).to_contain_text("6 May 2031")
    row.get_by_role("link").first.click()
    member.page.get_by_label("Rate limit").fill("")
    member.page.get_by_label("Burst").fill("")
    member.page.get_by_role("button", name="Save key").click()
    expect(member.page.locator("dt", has_text="Limits").locator("+ dd")).to_have_text("3 at a time")
    assert call(talking, secret)[0] == 200
    assert call(talking, secret)[0] == 200


def end_now(site: Site, key: str) -> None:
    """Let a key's time pass, as a clock would; the server learns of it as of a change by another node."""
    with closing(sqlite3.connect(site.appliance.data_dir / "dwctl.db", timeout=10)) as database, database:
        changed = database.execute("UPDATE api_keys SET expires_at = 1000000 WHERE id = ?", (key,)).rowcount
        assert changed == 1
        database.execute("INSERT INTO change_log (area, entity_id, at) VALUES ('key', ?, 1)", (key,))


def test_a_rotated_key_goes_on_with_both_secrets_until_the_overlap_has_passed(talking: Site, member: Watched) -> None:
    """Check 22."""
    old = create(member, "rotated")
    key, page = key_id(member), member.page
    member.open(f"/keys/{key}")
    page.get_by_role("link", name="Rotate").click()
    page.get_by_label("1 hour").check()
    page.get_by_role("button", name="Rotate key").click()
    new = page.get_by_label("Secret key").input_value()
    assert new != old
    assert (call(talking, old)[0], call(talking, new)[0]) == (200, 200)
    page.get_by_role("link", name="a key of its own").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("rotated (old")
    expect(page.locator("dt", has_text="Last used").locator("+ dd")).not_to_have_text("never")
    expect(page.locator("dt", has_text="State").locator("+ dd")).to_contain_text("Ending")
    assert new not in page.content()
    end_now(talking, key_id(member))
    until(lambda: call(talking, old)[1].get("error", {}).get("code") == "api_key_expired", 10, "the old secret has ended")
    assert call(talking, new)[0] == 200
    page.reload()
    expect(page.locator("dt", has_text="State").locator("+ dd")).to_contain_text("Expired")
    member.open("/keys?state=expired&q=rotated")
    expect(page.locator("[data-row]")).to_have_count(1)
    member.open(f"/keys/{key}/rotate")
    page.get_by_label("None: the old secret ends now").check()
    page.get_by_role("button", name="Rotate key").click()
    latest = page.get_by_label("Secret key").input_value()
    assert call(talking, new)[0] == 403
    assert call(talking, latest)[0] == 200


def test_deleting_a_key_that_is_used_wants_its_name(talking: Site, member: Watched) -> None:
    secret = create(member, "to be deleted")
    key, page = key_id(member), member.page
    assert call(talking, secret)[0] == 200
    member.open(f"/keys/{key}")
    page.get_by_role("button", name="Delete").first.click()
    dialog = page.get_by_role("dialog", name="Delete to be deleted?")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    expect(dialog).to_contain_text("Whatever still uses it is refused")
    member.expect(422)
    dialog.get_by_label("to confirm").fill("something else")
    dialog.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text("Type its name")
    assert call(talking, secret)[0] == 200
    page.get_by_label("to confirm").fill("to be deleted")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("to be deleted is deleted")
    assert call(talking, secret)[0] == 403
    member.expect(404)
    answer = member.open(f"/keys/{key}")
    assert answer is not None
    assert answer.status == 404
    create(member, "never used")
    member.open(f"/keys/{key_id(member)}/delete")
    assert page.get_by_label("to confirm").count() == 0
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("never used is deleted")


def test_everything_works_without_scripts(talking: Site, watch: Watch) -> None:
    """Check 15."""
    window = watch(scripts=False)
    window.sign_in(MEMBER, PASSWORD)
    page = window.page
    secret = create(window, "without scripts", Rate_limit="50")
    assert call(talking, secret)[0] == 200
    assert page.get_by_text("client.chat.completions.create").count() == 2, "Python and JavaScript are both shown"
    page.get_by_label("Model").select_option("free")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Send test request").click()
    expect(opened.value.locator(".answer-card")).to_contain_text("tokens in")
    assert page.get_by_label("Secret key").input_value() == secret
    page.get_by_role("link", name="I have stored it").click()
    page.get_by_label("Note").fill("typed without scripts")
    page.get_by_role("button", name="Save key").click()
    expect(page.locator("p.lead", has_text="typed without scripts")).to_be_visible()
    page.get_by_role("link", name="Rotate").click()
    page.get_by_label("None: the old secret ends now").check()
    page.get_by_role("button", name="Rotate key").click()
    assert call(talking, secret)[0] == 403
    window.open("/keys")
    page.get_by_label("Search keys").fill("without scr")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("[data-row]")).to_have_count(1)
    page.get_by_role("link", name="without scripts").click()
    address = page.url
    window.open(address.removeprefix(window.url) + "/delete")
    page.get_by_label("to confirm").fill("without scripts")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("is deleted")


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("Name", "   ", "Fill this in."),
        ("Rate limit", "many", "Write a number, such as 12 or 0.5."),
        ("Rate limit", "-1", "requests_per_second must be a number from 0.000001"),
        ("Rate limit", "nan", "requests_per_second must be a number from 0.000001"),
        ("Burst", "1.5", "Write a whole number, without spaces or unit."),
        ("Burst", "0", "burst_size must be a whole number from 1"),
        ("Concurrency", "99999999999", "max_concurrency must be a whole number from 1"),
        ("Last day", "2020-01-01", "This day is over."),
    ],
)
def test_what_cannot_be_accepted_is_said_beside_the_field_and_stays(member: Watched, label: str, value: str, message: str) -> None:
    """Check 17."""
    member.expect(422)
    member.open("/keys/new")
    page = member.page
    page.get_by_label("Name").fill("never made")
    page.get_by_label("Note").fill("kept")
    page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Create key").click()
    field = page.get_by_label(label)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(field).to_have_value(value)
    expect(page.locator(".field .error")).to_contain_text(message)
    expect(page.get_by_label("Note")).to_have_value("kept")
    member.open("/keys?q=never made")
    expect(page.get_by_text("No key matches")).to_be_visible()


def test_a_forged_form_is_refused_field_by_field(talking: Site, member: Watched) -> None:
    """What no browser sends: fields that the page's own form cannot hold."""
    member.open("/keys/new")
    token = member.page.locator("input[name=_csrf]").first.get_attribute("value") or ""

    def post(path: str, **fields: str) -> int:
        answer = member.page.request.post(talking.url + path, form={"_csrf": token, **fields}, max_redirects=0)
        return answer.status

    assert post("/keys/new") == 422
    assert post("/keys/new", name="x" * 256) == 422
    assert post("/keys/new", name="playground key", purpose="playground") == 422
    assert post("/keys/new", name="a day", expires_on="tomorrow") == 422
    assert post("/keys/new", name="a day", expires_on="9999-12-31") == 422
    assert post("/keys/new", name="somebody else's", user="00000000-0000-0000-0000-000000000000") == 403
    assert post("/keys/nonsense", name="x", revision="1") == 404
    assert post("/keys/nonsense/rotate", overlap="1h") == 404
    assert post("/keys/nonsense/delete") == 404


def test_a_name_is_taken_once_and_two_who_change_a_key_are_told(member: Watched, watch: Watch) -> None:
    create(member, "taken")
    address, page = f"/keys/{key_id(member)}", member.page
    member.expect(409)
    member.open("/keys/new")
    page.get_by_label("Name").fill("taken")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator(".field .error")).to_contain_text("already exists")
    other = watch()
    other.sign_in(MEMBER, PASSWORD)
    member.open(address)
    other.open(address)
    other.page.get_by_label("Note").fill("the quicker one")
    other.page.get_by_role("button", name="Save key").click()
    expect(other.page.get_by_role("status")).to_contain_text("saved")
    page.get_by_label("Note").fill("the slower one")
    page.get_by_role("button", name="Save key").click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody else has changed this")
    expect(page.get_by_label("Note")).to_have_value("the slower one")
    expect(page.get_by_text("Stored now: the quicker one")).to_be_visible()
    page.get_by_role("button", name="Save key").click()
    expect(page.get_by_text("the slower one").first).to_be_visible()


def test_a_name_with_markup_is_text(member: Watched) -> None:
    """Check 7."""
    name = '<img src=x onerror=alert(1)><div hx-post="/logout" hx-trigger="load">=1+1'
    create(member, name)
    page = member.page
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    address = f"/keys/{key_id(member)}"
    for path in (address, address + "/rotate", address + "/delete", "/keys"):
        member.open(path)
        expect(page.get_by_text(name).first).to_be_visible()
        assert page.locator("main img, main [hx-trigger=load]").count() == 0
    assert page.url.endswith("/keys"), "nobody was signed out"


def test_managers_see_everybodys_keys_and_others_only_their_own(talking: Site, member: Watched, admin: Watched) -> None:
    create(member, "seen by managers")
    key = key_id(member)
    member.open("/keys")
    assert member.page.get_by_role("link", name="Everybody's").count() == 0
    member.expect(403)
    refused = member.open("/keys?scope=all")
    assert refused is not None
    assert refused.status == 403
    admin.open("/keys")
    expect(admin.page.get_by_text("seen by managers")).to_have_count(0)
    admin.page.get_by_role("link", name="Everybody's").click()
    expect(admin.page.get_by_role("row", name="seen by managers")).to_contain_text(MEMBER)
    search = admin.page.get_by_label("Search keys")
    search.fill("seen by")
    search.press("Enter")  # the list has just been replaced: typing alone may come before it listens again
    expect(admin.page.locator("[data-row]")).to_have_count(1)
    expect(admin.page).to_have_url(re.compile("scope=all.*q=seen"))
    admin.page.get_by_role("link", name="seen by managers").click()
    expect(admin.page.get_by_role("heading", level=1)).to_have_text("seen by managers")
    create(admin, "the administrator's")
    member.expect(404)
    hidden = member.open(f"/keys/{key_id(admin)}")
    assert hidden is not None
    assert hidden.status == 404
    assert key != key_id(admin)


def test_a_platform_key_comes_with_a_call_that_it_may_make(talking: Site, member: Watched) -> None:
    member.open("/keys/new")
    page = member.page
    page.get_by_label("Name").fill("for scripts")
    page.get_by_label("Administration").check()
    page.get_by_role("button", name="Create key").click()
    snippet = page.locator("#snippets-1 code").inner_text()
    assert page.get_by_role("button", name="Send test request").count() == 0
    done = subprocess.run(["bash", "-c", snippet], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["email"] == MEMBER
