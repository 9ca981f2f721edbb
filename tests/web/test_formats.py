"""Numbers, money and foreign text as pages show them."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.money import NANO, parse_price
from dwctl.web.formats import amount, amount_text, compact_text, duration_text, highlight, markdown, percent, price_of, tick_text


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (400, "$0.0000004"),
        (1_896_000, "$0.001896"),
        (1_896_451, "$0.001896"),
        (18_200_000, "$0.0182"),
        (1_500_000_000, "$1.50"),
        (214_093_100_000, "$214.09"),
        (-1_234_567_000_000, "-$1,234.57"),
    ],
)
def test_money(nano: int, text: str) -> None:
    assert amount_text(nano, "USD") == text
    assert text in amount(nano, "USD")


def test_the_exact_amount_and_other_currencies() -> None:
    assert 'title="$0.001896451"' in amount(1_896_451, "USD")
    assert amount_text(NANO, "CHF") == "1.00 CHF"


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "$0"), (20_000, "$0.00002"), (500 * NANO, "$500"), (1500 * NANO, "$1.5k"), (100_000 * NANO, "$100k"), (2_000_000 * NANO, "$2M")],
)
def test_an_amount_beside_a_chart_is_short(nano: int, text: str) -> None:
    assert tick_text(nano, "USD") == text


@pytest.mark.parametrize(
    ("a_million", "text"),
    [("0.02", "$0.02"), ("0.6", "$0.60"), ("2.4", "$2.40"), ("15", "$15.00"), ("0.125", "$0.125"), ("0", "$0.00"), ("0.00102", "$0.00102")],
)
def test_a_price_ends_with_its_last_digit(a_million: str, text: str) -> None:
    shown = price_of(parse_price(a_million) // 1_000_000, 1_000_000, "USD")
    assert f">{text}<" in shown
    assert f'value="{a_million}"' in shown


@given(st.integers(-(10**15), 10**15))
def test_money_is_never_far_off(nano: int) -> None:
    shown = round(float(amount_text(nano, "USD").replace("$", "").replace(",", "")) * NANO)
    assert abs(shown - nano) <= max(abs(nano) * 0.0006, 1) or abs(shown - nano) <= NANO // 200


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (950, "950"), (12_345, "12.3 k"), (4_560_000, "4.56 M"), (999_999, "1000 k")])
def test_compact(number: int, text: str) -> None:
    assert compact_text(number) == text


@pytest.mark.parametrize(("ms", "text"), [(423, "423 ms"), (1700, "1.7 s"), (125_000, "2 min 5 s"), (3_700_000, "1 h 1 min")])
def test_duration(ms: float, text: str) -> None:
    assert duration_text(ms) == text


def test_percent_of_nothing_is_not_known() -> None:
    assert "—" in percent(1, 0)
    assert "1.6 %" in percent(16, 1000)


HOSTILE = """<script>alert(1)</script> <img src=x onerror=alert(1)> <div hx-post="/keys/1/delete" hx-trigger=load>x</div>
[link](javascript:alert(1)) ![picture](https://elsewhere.example/p.png?secret)
<a href="https://x" style="position:fixed" class="x" id="main">y</a>

| a | b |
|---|---|
| 1 | **2** |
"""


class Elements(HTMLParser):
    """The elements of a piece of HTML, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_markdown_cannot_act() -> None:
    found = Elements(str(markdown(HOSTILE))).found
    assert {tag for tag, _ in found} <= {"p", "a", "table", "thead", "tbody", "tr", "th", "td", "strong"}
    assert [attributes for tag, attributes in found if tag != "a" and attributes] == []
    [link] = [attributes for tag, attributes in found if tag == "a"]
    assert link == {"href": "https://elsewhere.example/p.png?secret", "rel": "noopener noreferrer nofollow", "target": "_blank"}


@pytest.mark.parametrize(
    "text",
    [
        "a|" * 300 + "\n" + "-|" * 300 + "\n" + "|\n" * 215,
        "> " + "a|" * 300 + "\n> " + "-|" * 300 + "\n" + "> x\n" * 215,
        "a|" * 300 + "\r" + "-|" * 300 + "\r" + "|\r\x1f\r" * 215,
        "a|" * 300 + "\n" + "-|" * 300 + "\n" + "|\x0b\n" * 215,
        "**a** <b>\n" * 7_000,
        "> a\n" + "b\n" * 7_000,
    ],
)
def test_markdown_that_would_take_long_is_shown_as_it_was_written(text: str) -> None:
    """A short table may have 65,536 cells."""
    assert Elements(markdown(text)).found == [("p", {"class": "raw"})]
    assert len(markdown(text)) < 4 * len(text) + 100


def test_a_long_table_is_a_table() -> None:
    found = Elements(markdown("a | b | c\n--|--|--\n" + "some words | more words | 12\n" * 1_000 + "\n" + "A line.\n" * 500)).found
    assert sum(tag == "td" for tag, _ in found) == 3_000


def test_source_text_is_escaped() -> None:
    assert "<b>" not in highlight('{"a": "<b>"}', "json")
    assert highlight("<b>", "no such language") == "&lt;b&gt;"
