"""Home: the set-up list ticks itself, numbers are the ledger's, and what needs attention is listed."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.appliance import KEY, Appliance, Simulator, model, running, setup, until
from tests.browser.conftest import PASSWORD, Site, Watch, chat, email_of, give_password

USER_ALONE = "newcomer@example.com"


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that nobody has asked anything yet, with a model that has no price and a provider that refuses its credential."""
    settings = {"auth": {"native": {"password": {"argon2_memory_kib": 8, "argon2_iterations": 1}}}}

    def document(url: str) -> dict[str, object]:
        described = setup(url, [model("chat", "sim-chat"), {**model("locked", "sim-chat"), "endpoint": "refusing"}])
        described["endpoints"].append({"name": "refusing", "url": url, "api_key": "not the provider's key"})
        described["users"].append({"email": USER_ALONE})
        return described

    with running(tmp_path_factory.mktemp("unused"), document, settings=settings) as (appliance, simulator):
        give_password(appliance, USER_ALONE)
        yield site_of(appliance, simulator)


def site_of(appliance: Appliance, simulator: Simulator) -> Site:
    return Site(appliance, simulator)


def test_the_first_request_ticks_itself_when_it_arrives(unused: Site, watch: Watch) -> None:
    window = watch(url=unused.url)
    window.sign_in()
    window.open("/")
    page = window.page
    steps = {str(step.get_attribute("data-step")): step.get_attribute("data-done") for step in page.locator("[data-step]").all()}
    assert steps == {"password": "yes", "endpoint": "yes", "model": "yes", "share": "yes", "key": "yes", "request": "no", "price": "no"}
    expect(page.locator("[data-step=request] live-feed")).to_have_attribute("state", "live")
    assert f"{unused.url}/ai/v1/chat/completions" in page.locator("[data-step=request] .snippet").inner_text()
    chat(unused, "chat", key=KEY)
    expect(page.locator("[data-step=request]")).to_have_attribute("data-done", "yes")
    assert page.locator("[data-step=request] live-feed").count() == 0
    assert page.locator("[data-step=price]").get_attribute("data-done") == "no"


def test_the_list_can_be_hidden_and_shown_again_without_scripts(unused: Site, watch: Watch) -> None:
    window = watch(url=unused.url, scripts=False)
    window.sign_in()
    window.open("/")
    window.page.get_by_role("button", name="Hide this list").click()
    assert window.page.locator("[data-step]").count() == 0
    window.open("/")
    assert window.page.locator("[data-step]").count() == 0
    window.page.get_by_role("button", name="Show the set-up list").click()
    assert window.page.locator("[data-step=price]").count() == 1


def test_a_plain_user_has_the_shorter_list_and_their_own_numbers(unused: Site, watch: Watch) -> None:
    window = watch(url=unused.url)
    window.sign_in(USER_ALONE, PASSWORD)
    window.open("/")
    assert [step.get_attribute("data-step") for step in window.page.locator("[data-step]").all()] == ["key", "request"]
    tiles = window.page.locator(".tile .label").all_inner_texts()
    assert tiles == ["Your requests", "Your failed", "Your spend"]
    assert window.page.locator(".tile .figure").first.inner_text() == "0"


def test_a_credential_that_a_provider_refuses_needs_attention(unused: Site, watch: Watch) -> None:
    chat(unused, "locked", key=KEY)
    window = watch(url=unused.url)
    window.sign_in()

    def warned() -> bool:
        window.open("/")
        return "The provider of the endpoint refusing refused its credential" in window.page.locator("#attention").inner_text()

    until(warned, 10, "the failed request is recorded")
    plain = watch(url=unused.url)
    plain.sign_in(USER_ALONE, PASSWORD)
    plain.open("/")
    assert "refusing" not in plain.page.locator("#attention").inner_text()


def test_numbers_are_those_of_the_api_and_lead_on(site: Site, watch: Watch) -> None:
    chat(site)
    window = watch()
    window.sign_in(email_of("RequestViewer"), PASSWORD)
    window.open("/")
    page = window.page
    for span in ("24h", "3d", "7d"):
        window.open(f"/?range={span}")
        assert page.get_by_role("navigation", name="Range").locator("[aria-current]").get_attribute("href") == f"/?range={span}"
        assert [tile.get_attribute("href") for tile in page.locator(".tile .label a").all()] == [
            f"/requests?range={span}",
            f"/requests?range={span}&outcome=errors",
            f"/cost?range={span}",
            f"/cost?range={span}&by=user",
        ]
        assert page.locator(".tile svg.sparkline").count() == 4
