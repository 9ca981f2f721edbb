"""API keys: made, shown once, tried as the page says, limited, rotated with an overlap, deleted with what that ends."""

import json
import re
import subprocess
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
