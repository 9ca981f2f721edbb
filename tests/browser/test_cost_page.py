"""Cost & usage: every number is the ledger's, the chart is the table's, and both lead to the requests."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.appliance import USER, Appliance
from tests.browser.conftest import PASSWORD, Watch, Watched
from tests.browser.traffic import OTHER, busy, rows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with busy(tmp_path_factory.mktemp("cost")) as (appliance, _):
        yield appliance


@pytest.fixture
def window(watch: Watch, server: Appliance) -> Watched:
    opened = watch(url=server.url)
    opened.sign_in()
    return opened


def charged(server: Appliance, of: str = "1") -> Decimal:
    """What the ledger's transactions say."""
    [(nano,)] = rows(
        server,
        "SELECT COALESCE(SUM(amount_nano), 0) FROM credits_transactions JOIN requests ON requests.id = request_id"
        f" WHERE transaction_type = 'usage' AND {of}",
    )
    return Decimal(nano) / 10**9


def cost(row: Locator) -> Decimal:
    return Decimal(str(row.locator("td.number data").get_attribute("value")))


@pytest.mark.parametrize(
    ("by", "column"),
    [
        ("model", "alias"),
        ("user", "(SELECT email FROM users WHERE id = requests.account_id)"),
        ("key", "(SELECT name || ' · ' || email FROM api_keys JOIN users ON users.id = user_id WHERE api_keys.id = requests.key_id)"),
        ("endpoint", "COALESCE(NULLIF(endpoint_name, ''), '(none)')"),
    ],
)
def test_every_total_is_the_ledgers(window: Watched, server: Appliance, by: str, column: str) -> None:
    page = window.page
    window.open(f"/cost?by={by}&top=100")
    groups = {row.locator("td").first.inner_text(): cost(row) for row in page.locator("[data-group]").all()}
    names = [name for (name,) in rows(server, f"SELECT DISTINCT {column} FROM requests")]
    quoted = {name: name.replace("'", "''") for name in names}
    assert groups == {name: charged(server, f"{column} = '{quoted[name]}'") for name in names}
    assert cost(page.locator("[data-total]")) == charged(server) == sum(groups.values())
    window.open(f"/cost?by={by}&top=1&then=day")
    some = {row.locator("td").first.inner_text(): cost(row) for row in page.locator("[data-group]").all()}
    assert sum(some.values()) == charged(server), "the first and Other are everything"
    assert sum(cost(row) for row in page.locator("[data-part]").all()) == charged(server)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    found = list(csv.DictReader(io.StringIO(download.value.path().read_text(), newline="")))
    assert sum(Decimal(row["cost"]) for row in found) == charged(server)
    assert not [cell for row in found for cell in row.values() if cell.startswith(("=", "+", "@"))]
    assert sum(int(row["requests"]) for row in found) == rows(server, "SELECT COUNT(*) FROM requests")[0][0]


def bars(page: Page) -> list[list[str]]:
    twin = page.locator("figure.chart table tbody tr")
    return [row.locator("td").all_inner_texts() for row in twin.all()]


def test_the_chart_is_the_table_and_leads_to_the_requests(window: Watched, server: Appliance) -> None:
    page = window.page
    window.open("/cost?metric=requests&range=24h")
    series = page.locator("figure.chart table thead th").all_inner_texts()[1:]
    table = {row.locator("td").first.inner_text(): int(row.locator("td").nth(1).inner_text()) for row in page.locator("[data-group]").all()}
    data = [[int(cell) for cell in row] for row in bars(page)]
    assert len(data) == 25, "hours without a request are there as well"
    assert {name: sum(row[place] for row in data) for place, name in enumerate(series)} == table
    drawn = page.locator("figure.chart rect.bar")
    assert drawn.count() == sum(value > 0 for row in data for value in row)
    place, hour = next(
        (place, index) for index, row in enumerate(data) for place, value in enumerate(row) if value and series[place] == "chat"
    )
    title = f"{page.locator('figure.chart table tbody th').nth(hour).inner_text()} · chat: {data[hour][place]}"
    bar = page.locator("figure.chart a", has=page.locator("title", has_text=title))
    heights = {float(str(found.get_attribute("height"))) for found in drawn.all()}
    assert min(heights) > 0
    bar.locator("rect").click(force=True)
    page.wait_for_url("**/requests?model=chat&from=*&to=*")
    expect(page.locator("tfoot")).to_contain_text(f"All matching · {data[hour][place]}")


def test_a_group_leads_to_the_page_about_it_alone(window: Watched, server: Appliance) -> None:
    page = window.page
    window.open("/cost?by=user&then=model")
    page.get_by_role("link", name=OTHER, exact=True).click()
    expect(page.locator(".chip")).to_contain_text(OTHER)
    assert page.get_by_label("Group by").input_value() == "model"
    assert cost(page.locator("[data-total]")) == charged(server, f"requests.account_id = (SELECT id FROM users WHERE email = '{OTHER}')")
    page.get_by_label("Metric").select_option("requests")
    page.wait_for_url(lambda url: "metric=requests" in url)
    expect(page.locator("figure.chart title").first).to_have_text("Requests by day and model (UTC)")


def days(server: Appliance) -> tuple[str, str]:
    """The day before the last of the traffic, and that day."""
    [(last,)] = rows(server, "SELECT MAX(started_us) FROM requests")
    at = datetime.fromtimestamp(last // 10**6, UTC)
    return f"{at - timedelta(days=1):%Y-%m-%d}", f"{at:%Y-%m-%d}"


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_range_of_days_is_chosen_and_both_are_included(watch: Watch, server: Appliance, scripts: bool) -> None:
    window = watch(url=server.url, scripts=scripts)
    window.sign_in()
    page = window.page
    window.open("/cost")
    first, last = days(server)
    for label, value in (("From", first), ("to", last)):
        page.get_by_label(label, exact=True).fill(value)
    if not scripts:
        page.get_by_role("button", name="Apply").click()
    page.wait_for_url(lambda url: f"from={first}" in url and f"to={last}" in url)
    expect(page.locator(".chip")).to_have_text(re.compile(f"time {first} UTC – {last} UTC"))
    after = datetime.fromisoformat(last) + timedelta(days=1)
    expect(page.locator(".tail-bar")).to_contain_text(f"{first} 00:00 – {after:%Y-%m-%d} 00:00 UTC")
    assert cost(page.locator("[data-total]")) == charged(server)
    assert page.locator("select[name=range]").input_value() == ""
    if scripts:
        page.locator("select[name=range]").select_option("24h")
        page.wait_for_url(lambda url: "range=24h" in url and "from=" not in url)
        assert page.get_by_label("From", exact=True).input_value() == ""
    else:
        page.locator(".chip").click()
        assert not re.search("from=|to=", page.url)


def test_what_is_not_a_whole_month_says_so_and_parts_lead_no_further_than_their_group(window: Watched, server: Appliance) -> None:
    page = window.page
    _, day = days(server)
    window.open(f"/cost?by=month&from={day}&to={day}")
    assert page.locator("[data-group] td").first.inner_text() == f"{day[:7]} (part)"
    window.open(f"/cost?by=day&from={day}&to={day}")
    assert page.locator("[data-group] td").first.inner_text() == day
    for then in ("day", "month"):
        window.open(f"/cost?by=hour&then={then}")
        for whole, part in zip(page.locator("[data-group]").all(), page.locator("[data-part]").all(), strict=True):
            links = [row.locator("td.number a").get_attribute("href") for row in (whole, part)]
            assert links[0] == links[1] is not None


def test_plain_users_see_their_own(watch: Watch, server: Appliance) -> None:
    window = watch(url=server.url)
    window.sign_in(USER, PASSWORD)
    page = window.page
    window.open("/cost")
    mine = f"requests.account_id = (SELECT id FROM users WHERE email = '{USER}')"
    assert cost(page.locator("[data-total]")) == charged(server, mine)
    assert page.get_by_label("Group by").locator("option[value=user]").count() == 0
    export = page.request.get(f"{window.url}/cost.csv").text()
    assert sum(Decimal(row["cost"]) for row in csv.DictReader(io.StringIO(export, newline=""))) == charged(server, mine)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("by=colour", "Choose one of: model"),
        ("then=colour", "Choose one of: model"),
        ("metric=joy", "Choose one of: charge_nano"),
        ("top=0", "from 1 to 100"),
        ("top=many", "from 1 to 100"),
        ("range=500d", "range: The range may be at most 400 days"),
        ("from=2026-01-02T00:00&to=2026-01-01T00:00", "must begin before it ends"),
        ("user=nobody%40example.com", "Nobody has this e-mail address or id."),
    ],
)
def test_what_cannot_be_added_up_is_said(window: Watched, words: str, sentence: str) -> None:
    window.expect(422)
    answer = window.open(f"/cost?{words}")
    assert answer is not None
    assert answer.status == 422
    expect(window.page.locator(".notice.danger")).to_contain_text(sentence)
    assert window.page.request.get(f"{window.url}/cost.csv?{words}", headers={"accept": "text/html"}).status == 400


def test_an_empty_time_says_so(window: Watched) -> None:
    window.open("/cost?from=2020-01-01T00:00&to=2020-01-02T00:00")
    expect(window.page.locator(".empty")).to_contain_text("Nothing was used")
