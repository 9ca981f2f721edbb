"""Every piece of code that a page offers is taken from its tab and runs as it is."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dwctl.operations.snippets import KEY_VARIABLE
from tests.appliance import until
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, found
from tests.browser.talking import MEMBER, recorded, talking
from tests.browser.test_keys import create, key_id
from tests.pasted import execute

__all__ = ["talking"]

LANGUAGES = {"curl": "bash", "Python": "python", "JavaScript": "javascript", "Anthropic": "python"}
EVERYWHERE = ["key shown", "key", "model", "embeddings model", "playground", "embeddings"]
GREETINGS = ("key shown", "key", "model")
"""Where a first hello is offered, in Anthropic's words too."""


@pytest.fixture
def member(talking: Site, watch: Watch) -> Watched:
    window = watch()
    window.sign_in(MEMBER, PASSWORD)
    return window


def taken(page: Page, title: str, titles: list[str]) -> str:
    """The code of a tab, after it was chosen."""
    tabs = page.get_by_role("tablist").first
    expect(tabs.get_by_role("tab")).to_have_text(titles)
    tabs.get_by_role("tab", name=title).click()
    code = page.get_by_role("tabpanel", name=title).locator("code")
    expect(code).to_be_visible()
    return code.inner_text()


def offered(site: Site, window: Watched, where: str) -> None:
    """Open a page that offers code."""
    page = window.page
    match where:
        case "key":
            window.open(f"/keys/{key_id(window)}")
        case "model":
            window.open(f"/models/{found(site, 'models?search=priced', 'alias', 'priced')}")
        case "embeddings model":
            window.open(f"/models/{found(site, 'models?search=vectors', 'alias', 'vectors')}")
        case "playground":
            window.open("/playground?model=priced&system=It%27s+%22brief%22&temperature=0.5&max_tokens=9")
            page.get_by_label("Message").fill("Why $HOME, \\ and 'quotes'?")
            page.get_by_role("button", name="Code and link").click()
        case "embeddings":
            window.open("/playground/embeddings?model=vectors")
            page.get_by_label("Texts", exact=True).fill('it\'s one\n"two"')
            page.get_by_role("button", name="Compare").click()


@pytest.mark.parametrize(
    "titles",
    [
        pytest.param(("curl", "Python", "Anthropic"), id="shell and Python"),
        pytest.param(("JavaScript",), id="JavaScript", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("where", EVERYWHERE)
def test_code_runs_as_the_page_shows_it(
    talking: Site, member: Watched, admin: Watched, tmp_path: Path, where: str, titles: tuple[str, ...]
) -> None:
    secret = create(member, f"{titles[0]} of {where}")
    key = key_id(member)
    offered(talking, member, where)
    shown = [name for name in LANGUAGES if name != "Anthropic" or where in GREETINGS]
    codes = {title: taken(member.page, title, shown) for title in titles if title in shown}
    seen: set[str] = set()

    def look() -> set[str]:
        answer = admin.page.request.get(f"{talking.url}/admin/api/v1/requests", params={"limit": 100})
        return {entry["id"] for entry in answer.json()["entries"] if entry["api_key_id"] == key} - seen

    for title, code in codes.items():
        assert (secret in code) is (where == "key shown"), title
        assert (KEY_VARIABLE in code) is (where != "key shown"), title
        assert execute(LANGUAGES[title], code, tmp_path, **({} if secret in code else {KEY_VARIABLE: secret})).strip(), title
        [request] = until(look, 10, f"the request of {title} in the log")
        entry = recorded(admin, request)
        assert (entry["status_code"], entry["outcome"], entry["request_origin"]) == (200, "complete", "api"), title
        seen.add(request)
