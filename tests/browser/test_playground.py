"""The playground: answers that stream, can be stopped, stand side by side, and harm nobody whatever is in them."""

import json
import os
import re
import subprocess

import pytest
from playwright.sync_api import Locator, expect

from tests.appliance import KEY, until
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, found, theme
from tests.browser.talking import MEMBER, recorded, talking
from tests.browser.test_every_page import look

__all__ = ["talking"]


@pytest.fixture
def member(talking: Site, watch: Watch) -> Watched:
    window = watch()
    window.sign_in(MEMBER, PASSWORD)
    return window


def send(window: Watched, text: str) -> Locator:
    """Send a message; the turn that answers it."""
    before = window.page.locator(".turn").count()
    window.page.get_by_label("Message").fill(text)
    window.page.get_by_role("button", name="Send").click()
    turn = window.page.locator(".turn").nth(before)
    expect(turn).to_be_visible()
    return turn


def request_id(turn: Locator) -> str:
    return str(turn.locator(".foot a").first.get_attribute("href")).rsplit("/", 1)[1]


def test_an_answer_grows_before_it_is_complete_and_says_what_it_took(member: Watched, admin: Watched) -> None:
    """Check 11, first half."""
    member.open("/playground?model=priced")
    turn = send(member, "Say something")
    text = turn.locator(".answer .raw").last
    expect(text).not_to_be_empty()
    begun = text.inner_text()
    expect(turn.locator(".foot")).to_contain_text("TTFT")
    whole = turn.locator(".prose").inner_text()
    assert len(begun) < len(whole)
    foot = turn.locator(".foot").inner_text()
    assert re.search(r"TTFT\s*\d+ ms", foot)
    assert re.search(r"\d+ tokens/s", foot)
    assert re.search(r"\d+ tokens in\s+40 out", foot)
    assert "$0.0004" in foot
    entry = recorded(admin, request_id(turn))
    assert (entry["status_code"], entry["purpose"], entry["request_origin"], entry["user_email"]) == (200, "playground", "frontend", MEMBER)
    assert entry["access_source"] == "session"
    assert entry["completion_tokens"] == 40
    expect(member.page.get_by_label("Message")).to_have_value("")
    expect(member.page.get_by_role("button", name="Send")).to_be_enabled()


def test_escape_stops_an_answer_and_the_provider_is_let_go(talking: Site, member: Watched, admin: Watched) -> None:
    """Check 11, second half."""
    member.open("/playground?model=slow")
    turn = send(member, "Talk for a while")
    expect(turn.locator(".answer .raw").last).not_to_be_empty()
    member.page.keyboard.press("Escape")
    expect(turn.locator(".foot")).to_contain_text("Stopped")
    entry = recorded(admin, request_id(turn))
    assert entry["outcome"] == "cancelled"
    assert 0 < entry["completion_tokens"] < 400

    def left() -> bool:
        served = talking.simulator.served().get(entry["id"])
        return served is not None and served["outcome"] == "aborted"

    until(left, 10, "the provider sees that nobody listens any more")
    again = send(member, "Go on")
    member.page.get_by_role("button", name="Stop").click()
    expect(again.locator(".foot")).to_contain_text("Stopped")


def test_a_message_that_reaches_nobody_stays_and_the_page_says_so_until_it_does(member: Watched) -> None:
    member.open("/playground?model=priced")
    page = member.page
    page.route("**/playground", lambda route: route.abort("connectionrefused"))
    page.get_by_label("Message").fill("Is anybody there?")
    for _ in range(2):
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#toasts")).to_have_text("The server does not answer. Check that it can be reached, and try again.")
    expect(page.get_by_label("Message")).to_have_value("Is anybody there?")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.unroute("**/playground")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn .foot")).to_contain_text("TTFT")
    expect(page.locator("#toasts")).to_have_text("")
    member.forgive("ERR_CONNECTION_REFUSED", "htmx:error")


def test_leaving_the_page_lets_the_provider_go(talking: Site, member: Watched) -> None:
    member.open("/playground?model=slow")
    turn = send(member, "Talk to nobody")
    expect(turn.locator(".answer .raw").last).not_to_be_empty()
    member.open("/keys")
    until(lambda: not talking.appliance.in_flight(), 10, "nothing is under way")


def test_two_models_stream_at_once_and_one_that_fails_leaves_the_other_whole(member: Watched, admin: Watched) -> None:
    """Check 12."""
    member.open("/playground")
    page = member.page
    page.get_by_label("Model", exact=True).select_option("slow")
    page.get_by_label("Compare with").select_option("priced")
    page.get_by_label("Max tokens").fill("60")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("System prompt").fill("Be brief & kind")
    turn = send(member, "Hello, both")
    first, second = turn.locator(".answer").nth(0), turn.locator(".answer").nth(1)
    expect(first.locator(".raw").last).not_to_be_empty()
    expect(second.locator(".foot")).to_contain_text("TTFT")
    assert first.locator(".foot").count() == 0, "the slow one is still at it"
    expect(first.locator(".foot")).to_contain_text("Cut at max tokens")
    assert first.locator(".prose").inner_text()
    page.get_by_label("Compare with").select_option("torn")
    page.get_by_label("Model", exact=True).select_option("priced")
    broken = send(member, "And again")
    expect(broken.locator(".answer").nth(1).locator(".notice.danger")).to_be_visible()
    expect(broken.locator(".answer").nth(0).locator(".foot")).to_contain_text("40 out")
    assert recorded(admin, request_id(broken.locator(".answer").nth(1)))["outcome"] == "failed"
    page.get_by_role("button", name="Code and link").click()
    link = page.locator("#code .copyable code").inner_text()
    expect(page.locator("#code")).to_contain_text("Be brief & kind")
    member.open(link.removeprefix(member.url))
    expect(page.get_by_label("Model", exact=True)).to_have_value("priced")
    expect(page.get_by_label("Compare with")).to_have_value("torn")
    expect(page.get_by_label("Max tokens")).to_have_value("60")
    expect(page.get_by_label("Temperature")).to_have_value("0.5")
    expect(page.get_by_label("System prompt")).to_have_value("Be brief & kind")


def test_a_conversation_goes_on_where_it_was_and_its_code_runs_as_shown(talking: Site, member: Watched, admin: Watched) -> None:
    member.open("/playground?model=free")
    page = member.page
    first = send(member, "First question")
    expect(first.locator(".foot")).to_be_visible()
    said = first.locator(".prose").inner_text()
    second = send(member, "Second question")
    expect(second.locator(".foot")).to_be_visible()
    body = recorded(admin, request_id(second))["bodies"]["request"]
    asked = [(message["role"], message["content"].split()[0]) for message in json.loads(body)["messages"]]
    assert asked == [("user", "First"), ("assistant", said.split()[0]), ("user", "Second")]
    page.get_by_label("Message").fill("Third question")
    page.get_by_role("button", name="Code and link").click()
    code = page.locator("#code-1-1 code").inner_text()
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=30, env={"DWCTL_API_KEY": KEY, "PATH": os.defpath})
    assert "data: [DONE]" in done.stdout, done.stderr
    assert "Third question" in code
    expect(page.get_by_label("Message")).to_have_value("Third question")
    expect(page.locator(".turn")).to_have_count(2)


@pytest.mark.parametrize(("alias", "path"), [("priced", "/playground"), ("vectors", "/playground/embeddings")])
def test_a_model_s_page_leads_to_a_playground_with_that_model(talking: Site, member: Watched, alias: str, path: str) -> None:
    member.open(f"/models/{found(talking, f'models?search={alias}', 'alias', alias)}")
    member.page.get_by_role("link", name="Try it").click()
    member.page.wait_for_url(f"**{path}?*")
    expect(member.page.get_by_label("Model", exact=True)).to_have_value(alias)


def test_markup_in_questions_and_answers_is_text(member: Watched) -> None:
    """Check 7."""
    hostile = (
        '<script>alert(1)</script><img src=x onerror=alert(1)> <div hx-post="/logout" hx-trigger="load">x</div>'
        " [link](javascript:alert(1)) ![picture](https://example.com/x.png) <svg onload=alert(1)> **bold**"
    )
    member.open("/playground?model=free")
    page = member.page
    turn = send(member, hostile)
    expect(turn.locator(".foot")).to_contain_text("TTFT")
    assert "<script>alert(1)</script>" in turn.locator(".asked").inner_text()
    page.get_by_role("button", name="Code and link").click()
    expect(page.locator("#code .card")).to_be_visible()
    assert page.locator("main :is(script, img, svg[onload], [hx-trigger=load], a[href^='javascript'])").count() == 0
    member.open("/requests")
    expect(page.get_by_role("heading", level=1)).to_have_text("Requests")


def test_an_answer_with_markup_is_rendered_and_harmless(talking: Site, member: Watched) -> None:
    """Check 7, of what models write: an earlier answer is rendered by the same filter as a new one."""
    answer = (
        "# Title\n**bold** <script>alert(1)</script> <img src=x onerror=alert(1)> [bad](javascript:alert(1)) [good](https://example.com/)"
        ' ![shot](https://example.com/x.png)\n\n<div hx-post="/logout" hx-trigger="load">x</div>'
    )
    window = member
    window.open("/playground?model=free")
    page = window.page
    page.locator("input[name=history]").evaluate(
        "(field, value) => { field.value = value; }", json.dumps([{"prompt": "<b>q</b>", "answers": [answer]}])
    )
    window.expect(422)
    page.get_by_label("Temperature").fill("9")
    page.get_by_label("Message").fill("x")
    page.get_by_role("button", name="Send").click()
    prose = page.locator(".turn .prose")
    expect(prose.locator("strong")).to_have_text("bold")
    expect(prose).to_contain_text("<script>alert(1)</script>")
    assert page.locator(".turn :is(script, img, [hx-trigger=load], a[href^='javascript'])").count() == 0
    expect(prose.get_by_role("link", name="good")).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(page.get_by_label("Temperature")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".field .error")).to_have_text("Must be at most 2.0.")
    page.get_by_label("Temperature").fill("1")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator(".turn").nth(1).locator(".foot")).to_be_visible()


def test_texts_are_compared_by_their_embeddings(member: Watched, admin: Watched) -> None:
    member.open("/playground/embeddings?model=vectors")
    page = member.page
    page.get_by_label("Texts", exact=True).fill("a cat\n\na cat\n<b>dog</b>")
    page.get_by_role("button", name="Compare").click()
    rows = page.get_by_role("table", name="Similarity of the texts").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("1.0000")
    expect(rows.nth(1)).to_contain_text("<b>dog</b>")
    entry = recorded(admin, str(page.locator(".foot a").get_attribute("href")).rsplit("/", 1)[1])
    assert (entry["operation"], entry["purpose"], entry["status_code"]) == ("embeddings", "playground", 200)
    member.expect(422)
    page.get_by_label("Texts", exact=True).fill("only one")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".field .error")).to_contain_text("Write 2 to 16 texts")
    expect(page.get_by_label("Texts", exact=True)).to_have_value("only one")


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("Temperature", "hot", "Write a number, such as 12 or 0.5."),
        ("Top p", "1.5", "Must be at most 1.0."),
        ("Top p", "nan", ""),
        ("Max tokens", "0", "Must be at least 1."),
        ("Max tokens", "many", "Write a whole number, without spaces or unit."),
    ],
)
def test_parameters_that_do_not_fit_are_said_beside_them(member: Watched, label: str, value: str, message: str) -> None:
    """Check 17."""
    member.expect(422)
    member.open("/playground?model=free&system=kept")
    page = member.page
    page.get_by_label("Message").fill("kept too")
    page.get_by_label(label).fill(value)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_label(label)).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".field .error")).to_contain_text(message)
    expect(page.get_by_label(label)).to_have_value(value)
    expect(page.get_by_label("System prompt")).to_have_value("kept")
    expect(page.get_by_label("Message")).to_have_value("kept too")
    expect(page.locator(".turn")).to_have_count(0)


def test_a_forged_conversation_and_a_stranger_s_run_are_refused(talking: Site, member: Watched) -> None:
    member.open("/playground")
    token = member.page.locator("input[name=_csrf]").first.get_attribute("value") or ""

    def post(path: str, **fields: str) -> int:
        return member.page.request.post(talking.url + path, form={"_csrf": token, **fields}, max_redirects=0).status

    for history in ("nonsense", '{"a": 1}', "[" * 2000, json.dumps([{"prompt": "x", "answers": [1]}])):
        assert post("/playground", model="free", prompt="x", history=history) == 422
        assert post("/playground/code", model="free", history=history) in (303, 422)
    assert post("/playground", model="free") == 422
    assert post("/playground/stop", run="01a2149f-0000-7000-8000-000000000000") == 204
    assert member.page.request.get(f"{talking.url}/playground?code=1&model=free&temperature=hot").status == 200
    assert member.page.request.post(f"{talking.url}/playground", form={"model": "free", "prompt": "x"}).status == 403


def test_a_long_conversation_is_rendered_as_far_as_a_page_allows(talking: Site, member: Watched) -> None:
    member.open("/playground")
    token = member.page.locator("input[name=_csrf]").first.get_attribute("value") or ""

    def shown(turns: int, answers: list[str]) -> str:
        """The page that shows the conversation again beside a mistake."""
        history = json.dumps([{"prompt": "x", "answers": answers}] * turns)
        fields = {"_csrf": token, "model": "free", "prompt": "x", "temperature": "9", "history": history}
        return member.page.request.post(f"{talking.url}/playground", form=fields).text()

    table = "a|" * 60 + "\n" + "-|" * 60 + "\n" + "|\n" * 100
    page = shown(40, [table])
    assert (page.count("<table>"), page.count('class="turn"')) == (2, 40)
    assert page.rindex("<table>") > page.rindex("a|a|a|")
    assert page.count("<strong>") == 0
    assert shown(1, ["**a**", "**b**"]).count("<strong>") == 2
    assert shown(1, [""] * 3).count('class="turn"') == 0


def test_everything_works_without_scripts(talking: Site, watch: Watch) -> None:
    """Check 15."""
    window = watch(scripts=False)
    window.sign_in(MEMBER, PASSWORD)
    page = window.page
    window.open("/playground?model=free&model2=priced&system=Be+brief")
    page.get_by_label("Message").fill("One")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn .foot")).to_have_count(2)
    page.get_by_label("Message").fill("Two")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.get_by_label("System prompt")).to_have_value("Be brief")
    page.get_by_role("button", name="Code and link").click()
    expect(page.locator("#code")).to_contain_text("model2=priced")
    assert "history" not in page.url
    assert "_csrf" not in page.url
    window.open("/playground/embeddings")
    page.get_by_label("Texts", exact=True).fill("one\ntwo")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".foot")).to_contain_text("tokens in")


@pytest.mark.parametrize("name", ["light", "dark"])
def test_pages_in_use_have_no_serious_finding_of_axe(member: Watched, name: str) -> None:
    findings: list[str] = []
    page = member.page
    with theme(member, name):
        member.open("/playground?model=free&model2=torn")
        turn = send(member, "Hello")
        expect(turn.locator(".foot")).to_have_count(2)
        page.get_by_role("button", name="Code and link").click()
        expect(page.locator("#code .card")).to_be_visible()
        findings += look(member, "playground in use")
        member.open("/playground/embeddings")
        page.get_by_label("Texts", exact=True).fill("one\ntwo")
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".foot")).to_be_visible()
        findings += look(member, "embeddings compared")
        member.open("/keys/new")
        page.get_by_label("Name").fill(f"looked at in {name}")
        page.get_by_role("button", name="Create key").click()
        page.get_by_role("button", name="Send test request").click()
        expect(page.locator(".answer-card")).to_be_visible()
        findings += look(member, "secret shown")
        page.get_by_role("link", name="I have stored it").click()
        page.get_by_role("button", name="Delete").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        findings += look(member, "deletion asked")
        member.open("/keys")
        expect(page.locator("[data-row]").first).to_be_visible()
        findings += look(member, "list of keys")
    assert findings == []
