"""Requests: the list, its address, the inspector, the export, with scripts and without."""

import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.appliance import KEY, USER, Appliance, until
from tests.browser.conftest import PASSWORD, Watch, Watched
from tests.browser.traffic import EVIL, FORMULA, OTHER, OTHER_KEY, PROMPT, busy, call, rows

ROW = "tbody[data-ended] tr"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with busy(tmp_path_factory.mktemp("requests")) as (appliance, _):
        yield appliance


@pytest.fixture
def window(watch: Watch, server: Appliance) -> Watched:
    opened = watch(url=server.url, width=1500, height=900)
    opened.sign_in()
    return opened


def ids(page: Page) -> list[str]:
    return [str(row.get_attribute("data-request")) for row in page.locator(ROW).all()]


def query(page: Page) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(page.url).query).items()}


def recorded(server: Appliance, condition: str = "1") -> list[str]:
    return [found for (found,) in rows(server, f"SELECT id FROM requests WHERE {condition} ORDER BY seq DESC")]


def number(page: Page, selector: str) -> Decimal:
    return Decimal(str(page.locator(selector).get_attribute("value")))


def test_the_inspector_tells_the_route_and_its_sum_is_the_charge(window: Watched, server: Appliance) -> None:
    page = window.page
    request_id = call(server)
    for path in (f"/requests/{request_id}", f"/requests?open={request_id}"):
        window.open(path)
        attempts = page.get_by_role("region", name="Attempts")
        expect(attempts.locator("tbody tr")).to_have_count(1)
        expect(attempts.locator("tbody tr")).to_contain_text(re.compile(r"sim\s*sim-chat.*ms.*200", re.DOTALL))
        steps = page.locator(".chart svg").last
        assert [text for text in steps.locator("text").all_text_contents() if text.startswith("attempt")] == ["attempt 1 · sim"]
        twin = page.locator("table", has_text="Stages of the request").locator("tr")
        assert "attempt 1 · sim" in " ".join(twin.all_text_contents())
        terms = page.locator("[data-term]")
        amounts = [Decimal(str(term.locator("td").last.locator("data").get_attribute("value"))) for term in terms.all()]
        charged = number(page, "[data-charged] data")
        assert sum(amounts) == charged
        [(stored, uncached, cached, output)] = rows(
            server, f"SELECT charge_nano, uncached_input, cache_read, output FROM requests WHERE id = '{request_id}'"
        )
        assert charged == Decimal(stored) / 10**9
        by_hand = (uncached + cached) * Decimal("0.000000333333") + output * Decimal("0.00001")
        assert abs(by_hand - charged) <= Decimal("0.0000000005")
        assert len(amounts) == 4, "input, cache, output and the rounding"
        expect(page.get_by_text("Tariff “realtime”")).to_be_visible()
    failed = call(server, "failing")
    window.open(f"/requests/{failed}")
    expect(page.get_by_role("region", name="Attempts").locator("tbody tr")).to_contain_text("500")
    expect(page.get_by_text("Nothing was charged. It failed without usage that a provider reported.")).to_be_visible()


def test_nothing_of_what_strangers_write_is_markup(window: Watched, server: Appliance) -> None:
    page = window.page
    request_id = call(server, EVIL)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    for path in (
        f"/requests?model={EVIL}",
        f"/requests?open={request_id}",
        f"/requests?open={request_id}&tab=bodies",
        f"/requests?open={request_id}&tab=replay",
        f"/requests/{request_id}",
        f"/requests?q={PROMPT[:25]}",
        "/cost",
        "/cost?by=key&then=model",
    ):
        window.open(path)
        assert page.locator("main script, main img, aside script, aside img, [hx-trigger=load]").count() == 0, path
        assert page.locator("a[href^='javascript']").count() == 0
    window.open(f"/requests?open={request_id}&tab=bodies")
    expect(page.locator("#sheet pre").first).to_contain_text('<div hx-get=\\"/nowhere\\"')
    expect(page.locator("#sheet h2")).to_contain_text(EVIL)
    window.open(f"/requests?open={request_id}")
    expect(page.locator("#sheet .facts").first).to_contain_text("test <b>")
    raw = page.request.get(f"{window.url}/requests/{request_id}/raw?part=request")
    assert raw.headers["content-type"].startswith("text/plain")
    assert raw.headers["x-content-type-options"] == "nosniff"
    assert raw.headers["content-disposition"].startswith("attachment")
    assert raw.json()["messages"][0]["content"] == PROMPT


def test_a_conversation_is_read_as_one_and_its_json_is_one_click_away(window: Watched, server: Appliance) -> None:
    page = window.page
    request_id = call(server)
    for path in (f"/requests/{request_id}?tab=bodies", f"/requests?open={request_id}&tab=bodies"):
        window.open(path)
        asked, answered = page.locator(".turns").all()
        assert asked.locator(".role").all_inner_texts() == ["user"]
        expect(asked.locator(".raw")).to_have_text(PROMPT)
        assert answered.locator(".role").all_inner_texts() == ["assistant"]
        raw = page.locator("details", has_text="As JSON").first
        expect(raw.locator("pre")).to_be_hidden()
        raw.locator("summary").click()
        expect(raw.locator("pre")).to_contain_text('"messages"')


def test_j_and_k_walk_and_escape_closes(window: Watched) -> None:
    page = window.page
    window.open("/requests?live=off")
    listed = ids(page)
    page.locator(ROW).nth(1).locator("a").click()

    def shows(place: int) -> None:
        page.wait_for_url(lambda url: f"open={listed[place]}" in url)
        expect(page.locator("#sheet")).to_contain_text(listed[place])
        assert page.locator("[data-row][aria-selected=true]").get_attribute("data-request") == listed[place]
        expect(page.locator("[data-row][aria-selected=true]")).to_have_count(1)

    shows(1)
    page.keyboard.press("j")
    shows(2)
    page.keyboard.press("j")
    shows(3)
    page.keyboard.press("k")
    shows(2)
    page.keyboard.press("Escape")
    expect(page.locator("#sheet")).to_be_empty()
    assert query(page) == {"live": "off"}
    assert page.evaluate("document.activeElement.closest('tr').dataset.request") == listed[2]


def seen(page: Page) -> str:
    """What the page shows, without times that pass."""
    return re.sub(r"as of [\d:]+", "", page.locator("main").inner_text() + page.locator("#sheet").inner_text())


def test_the_address_is_the_state(window: Watched, watch: Watch, server: Appliance) -> None:
    page = window.page
    some = recorded(server, "alias = 'chat' AND status = 200")[3]
    window.open("/requests?live=off")
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("Model", exact=True).fill("chat")
    page.wait_for_url(lambda url: "model=chat" in url)
    expect(page.locator(".chip")).to_contain_text("chat")
    assert query(page) == {"live": "off", "model": "chat"}, "what says nothing is not in the address"
    page.go_back()
    expect(page.locator(".chip")).to_have_count(0)
    page.go_forward()
    expect(page.locator(".chip")).to_contain_text("chat")
    path = f"/requests?status=2xx&outcome=complete&range=24h&live=off&open={some}&tab=replay"
    window.open(path)
    expect(page.locator("#sheet")).to_contain_text("curl")
    first = seen(page)
    page.reload()
    assert seen(page) == first
    elsewhere = watch(url=server.url, width=1500, height=900)
    elsewhere.sign_in()
    elsewhere.open(path)
    assert seen(elsewhere.page) == first
    page.get_by_role("link", name="Next").click()
    page.wait_for_url(lambda url: "before=" in url)
    window.open("/cost")
    page.go_back()
    page.wait_for_url(lambda url: "before=" in url)
    # htmx takes up its work a moment after the page has loaded.
    page.locator("a[rel=prev][data-htmx-powered]").wait_for()
    page.go_back()
    page.wait_for_url(lambda url: "before=" not in url)
    expect(page.locator("#sheet")).to_contain_text("curl")
    assert seen(page) == first
    page.go_forward()
    page.wait_for_url(lambda url: "before=" in url)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_the_list_can_be_paged_to_its_end(watch: Watch, server: Appliance, scripts: bool) -> None:
    window = watch(url=server.url, scripts=scripts)
    window.sign_in()
    page = window.page
    window.open("/requests?live=off")
    expected = recorded(server)
    found = ids(page)
    while page.get_by_role("link", name="Next").count():
        assert page.locator("tr").count() < 200
        page.get_by_role("link", name="Next").click()
        expect(page.locator(f"{ROW} >> nth=0")).to_have_attribute("data-request", expected[len(found)])
        found += ids(page)
    assert found == expected
    page.get_by_role("link", name="Previous").click()
    expect(page.locator(f"{ROW} >> nth=0")).to_have_attribute("data-request", expected[len(expected) // 50 * 50 - 50])


def test_everything_works_without_scripts(watch: Watch, server: Appliance) -> None:
    window = watch(url=server.url, scripts=False)
    window.sign_in()
    page = window.page
    window.open("/requests")
    page.get_by_label("Search requests").fill("failing")
    page.get_by_role("button", name="Apply").click()
    assert query(page) == {"q": "failing"}
    assert ids(page) == recorded(server, "alias = 'failing'")[:50]
    page.locator(ROW).first.locator("a").click()
    expect(page.locator("#sheet")).to_contain_text("Nothing was charged")
    page.get_by_role("link", name="Replay").click()
    expect(page.locator("#sheet")).to_contain_text("chat/completions")
    expect(page.get_by_role("link", name="Open in the playground")).to_have_attribute("href", "/playground?model=failing")
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#sheet")).to_be_empty()
    window.open("/cost")
    page.get_by_label("Group by").select_option("key")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("[data-group]")).to_have_count(2)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_tag_leads_to_the_requests_that_have_it(watch: Watch, server: Appliance, scripts: bool) -> None:
    word = f"click={'scripts' if scripts else 'plain'}"
    first = call(server, "small", tags=f"{word}, beta")
    call(server, "chat")
    second = call(server, "chat", OTHER_KEY, tags=f"beta, {word}")
    until(lambda: {first, second} <= set(recorded(server)), 5, "both are recorded")
    window = watch(url=server.url, width=1500, height=900, scripts=scripts)
    window.sign_in()
    page = window.page
    window.open("/requests?live=off&range=24h")
    row = page.locator(f"[data-request='{second}']")
    assert row.locator("a.tag").all_inner_texts() == ["beta", word]
    row.get_by_role("link", name=word).click()
    page.wait_for_url(lambda url: "tag=" in url)
    assert query(page) == {"live": "off", "range": "24h", "tag": word}
    assert ids(page) == [second, first]
    expect(page.locator("tfoot")).to_contain_text("All matching · 2")
    expect(page.locator(".chip").first).to_contain_text(f"tag {word}")
    page.locator(f"[data-request='{first}'] a.whole-row").click()
    expect(page.locator("#sheet")).to_contain_text(first)
    assert page.locator("#sheet a.tag").all_inner_texts() == [word, "beta"]
    page.locator("#sheet").get_by_role("link", name=word).click()
    page.wait_for_url(lambda url: "open=" not in url)
    assert query(page) == {"tag": word}
    assert ids(page) == [second, first]
    window.open(f"/requests?live=off&tag={quote(word)}&model=small")
    assert ids(page) == [first]
    page.get_by_title("Remove this filter").last.click()
    page.wait_for_url(lambda url: "tag=" not in url)
    assert query(page) == {"live": "off", "model": "small"}


def test_a_tag_is_searched_for_exported_and_nothing_but_text(window: Watched, server: Appliance) -> None:
    page = window.page
    mine, foreign = call(server, tags="=1/2, export"), call(server, key=OTHER_KEY, tags="export")
    until(lambda: {mine, foreign} <= set(recorded(server)), 5, "both are recorded")
    window.open("/requests?live=off")
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("Tag", exact=True).fill("export")
    page.wait_for_url(lambda url: "tag=export" in url)
    page.keyboard.press("Escape")
    expect(page.locator(ROW)).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    found = list(csv.DictReader(io.StringIO(download.value.path().read_text(), newline="")))
    assert [(row["request_id"], row["tags"]) for row in found] == [(foreign, "export"), (mine, "'=1/2,export")]
    window.open("/requests?live=off&q=%3D1/2")
    expect(page.locator(".chip")).to_contain_text("tag =1/2")
    assert ids(page) == [mine]
    page.locator(ROW).get_by_role("link", name="=1/2").click()
    page.wait_for_url(lambda url: "tag=" in url)
    assert ids(page) == [mine]
    window.open(f"/requests?live=off&tag={quote(EVIL)}")
    assert page.locator("main img").count() == 0
    expect(page.locator(".chip")).to_contain_text(EVIL)
    expect(page.locator(".empty")).to_contain_text("No request matches")


@pytest.mark.parametrize(
    ("search", "said", "condition"),
    [
        ("chat", "model chat", "alias = 'chat'"),
        ("429", "status 429", "status = 429"),
        ("5xx", "status 5xx", "status >= 500"),
        ("test", "API key test", "key_id = (SELECT id FROM api_keys WHERE name = 'test')"),
        (OTHER, f"user {OTHER}", f"account_id = (SELECT id FROM users WHERE email = '{OTHER}')"),
        ("sim", "endpoint sim", "endpoint_name = 'sim'"),
    ],
)
def test_the_search_understands_what_it_finds(window: Watched, server: Appliance, search: str, said: str, condition: str) -> None:
    window.open(f"/requests?live=off&q={search}")
    expect(window.page.locator(".chip")).to_contain_text(said)
    assert ids(window.page) == recorded(server, condition)[:50]


def test_an_id_is_found_and_what_is_not_exact_is_suggested(window: Watched, server: Appliance) -> None:
    page = window.page
    some = recorded(server)[7]
    window.open(f"/requests?q={some}")
    assert ids(page) == [some]
    window.open("/requests?q=cha")
    expect(page.locator(".empty")).to_contain_text("Nothing is exactly “cha”")
    page.get_by_role("link", name="model chat").click()
    assert query(page) == {"model": "chat"}
    page.get_by_title("Remove this filter").click()
    assert query(page) == {}
    window.open("/requests?q=everyon")
    expect(page.locator(".empty")).to_contain_text("No request matches")  # there is a group of this name, which a request does not have


def test_a_bar_of_the_histogram_leads_to_its_requests(window: Watched, server: Appliance) -> None:
    page = window.page
    window.open("/requests?live=off")
    twin = page.locator("figure.chart table")
    total = len(recorded(server))
    assert page.locator("tfoot").inner_text().startswith(f"All matching · {total}")
    series = [[int(cell) for cell in row.locator("td").all_inner_texts()] for row in twin.locator("tbody tr").all()]
    sums = [sum(column) for column in zip(*series, strict=True)]
    assert sums == [
        len(recorded(server, condition))
        for condition in (
            "outcome IN ('complete', 'cancelled')",
            "outcome NOT IN ('complete', 'cancelled') AND status BETWEEN 400 AND 499",
            "outcome NOT IN ('complete', 'cancelled') AND NOT status BETWEEN 400 AND 499",
        )
    ]
    bars = page.locator("figure.chart rect.bar")
    assert bars.count() == sum(value > 0 for row in series for value in row)
    filled = [index for index, row in enumerate(series) if row[0]]
    place = next((index for index in filled[:-1] if sum(series[index + 1])), filled[0])  # with a neighbour, unless all fell into one bar
    page.locator(f"figure.chart a[aria-label='{twin.locator('tbody th').nth(place).inner_text()}'] rect").first.click(force=True)
    page.wait_for_url(lambda url: "from=" in url)
    expect(page.locator("tfoot")).to_contain_text(f"All matching · {sum(series[place])}")


def test_the_export_is_what_the_filters_find_and_no_formula(window: Watched, server: Appliance) -> None:
    page = window.page
    window.open(f"/requests?user={OTHER}&live=off")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    text = download.value.path().read_text()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["request_id"] for row in found] == recorded(server, f"account_id = (SELECT id FROM users WHERE email = '{OTHER}')")
    assert {row["api_key"] for row in found} == {f"'{FORMULA}"}
    assert EVIL in {row["model"] for row in found}
    charges = rows(server, f"SELECT SUM(charge_nano) FROM requests WHERE account_id = (SELECT id FROM users WHERE email = '{OTHER}')")
    assert sum(Decimal(row["cost"] or 0) for row in found) * 10**9 == charges[0][0]


def test_plain_users_see_their_own(watch: Watch, server: Appliance) -> None:
    window = watch(url=server.url)
    window.expect(403, 404)
    window.sign_in(USER, PASSWORD)
    page = window.page
    mine = f"account_id = (SELECT id FROM users WHERE email = '{USER}')"
    window.open("/requests?live=off")
    assert ids(page) == recorded(server, mine)[:50]
    window.open(f"/requests?live=off&q={OTHER}")
    assert ids(page) == []
    tagged = [call(server, key=key, tags="both=theirs") for key in (KEY, OTHER_KEY)]
    until(lambda: set(tagged) <= set(recorded(server)), 5, "both are recorded")
    for words in ("tag=both%3Dtheirs", "q=both%3Dtheirs"):
        window.open(f"/requests?live=off&{words}")
        assert ids(page) == tagged[:1]
        listed = page.request.get(f"{window.url}/requests.csv?{words}").text()
        assert [row["request_id"] for row in csv.DictReader(io.StringIO(listed, newline=""))] == tagged[:1]
    foreign = recorded(server, f"NOT {mine}")[0]
    window.open(f"/requests?live=off&open={foreign}")
    expect(page.locator("#sheet")).to_contain_text("This request is not here")
    own = recorded(server, mine)[0]
    window.open(f"/requests/{own}")
    expect(page.locator("main")).not_to_contain_text("test <b>")
    for path in (f"/requests/{foreign}", f"/requests/{foreign}/raw"):
        answer = page.request.get(window.url + path, headers={"accept": "text/html"})
        assert answer.status == 404, path
    for path in (f"/requests?user={OTHER}", f"/requests.csv?user={OTHER}", f"/events/requests?user={OTHER}", f"/cost?user={OTHER}"):
        answer = page.request.get(window.url + path, headers={"accept": "text/html"})
        assert answer.status == 403, path
    listed = page.request.get(window.url + "/requests.csv").text()
    assert len(list(csv.DictReader(io.StringIO(listed, newline="")))) == len(recorded(server, mine))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("status=abc", "Write a status such as 429"),
        ("status=9999", "Write a status such as 429"),
        ("outcome=good", "Choose one of: complete"),
        ("key=nothing", "No API key has this name or id."),
        ("user=nobody%40example.com", "Nobody has this e-mail address or id."),
        ("range=long", "Write a length of time"),
        ("from=yesterday", "Write a time such as"),
        ("from=2026-01-02T00:00&to=2026-01-01T00:00", "must begin before it ends"),
        ("before=first", "a whole number"),
    ],
)
def test_what_cannot_be_searched_for_is_said(window: Watched, words: str, sentence: str) -> None:
    window.expect(422)
    answer = window.open(f"/requests?{words}")
    assert answer is not None
    assert answer.status == 422
    expect(window.page.locator(".notice.danger")).to_contain_text(sentence)
    export = window.page.request.get(f"{window.url}/requests.csv?{words}", headers={"accept": "text/html"})
    assert export.status in (400, 200)
    if export.status == 200:
        assert words.startswith("before")


def test_a_request_that_is_not_there_is_said(window: Watched) -> None:
    window.expect(404)
    window.open("/requests?open=x")
    expect(window.page.locator("#sheet")).to_contain_text("This request is not here")
    answer = window.open("/requests/00000000-0000-7000-8000-000000000000")
    assert answer is not None
    assert answer.status == 404
