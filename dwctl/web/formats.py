"""Numbers, money, times and foreign text as pages show them. The exact value is always in the title.

"—" means not known, "0" zero. Money: up to four significant digits below a cent. Everything returned as ``Markup`` is built from escaped
parts; markdown of models and people goes through an allow-list, and nothing in it can run, load or act.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from dwctl.clock import to_rfc3339
from dwctl.money import NANO, format_amount, format_price, nano_from_pico, parse_price
from dwctl.web.charts import compact_number

UNKNOWN = Markup('<span class="unknown" title="not known">—</span>')
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}


def filters(currency: str) -> dict[str, Callable[..., Any]]:
    """The filters of the templates, for amounts in this currency."""

    def money(nano: int | None) -> Markup:
        return UNKNOWN if nano is None else amount(nano, currency)

    def pico(exact: int) -> Markup:
        text = format_price(exact)
        return Markup('<data class="number" value="{}">{}</data>').format(text, with_symbol(text, currency))

    def price(each: int | str | None, tokens: int = 1_000_000) -> Markup:
        if isinstance(each, str):
            each = parse_price(each)
        return UNKNOWN if each is None else price_of(each, tokens, currency)

    return {
        "money": money,
        "pico": pico,
        "price": price,
        "count": count,
        "compact": compact,
        "percent": percent,
        "duration": duration,
        "time": time,
        "markdown": markdown,
        "highlight": highlight,
        "role": role_words,
        "bytes": size,
    }


def with_symbol(text: str, currency: str) -> str:
    """``-$1.50``, or ``-1.50 CHF``."""
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency}"


def amount_text(nano: int, currency: str) -> str:
    """Nano-credits for reading: two decimals, and below a cent as many as make up to four significant digits."""
    size = abs(nano)
    if size == 0:
        return with_symbol("0.00", currency)
    if size < NANO // 100:
        exact = format_amount(size)
        fraction = exact.partition(".")[2]
        leading = len(fraction) - len(fraction.lstrip("0"))
        kept = min(leading + 4, 9)
        rounded = _rounded(size, 9 - kept)
        text = format_amount(rounded)
    else:
        places = 4 if size < NANO else 2
        whole, part = divmod(_rounded(size, 9 - places), NANO)
        text = f"{whole:,}.{part // 10 ** (9 - places):0{places}d}"
    return with_symbol(f"-{text}" if nano < 0 else text, currency)


def tick_text(nano: float, currency: str) -> str:
    """A round amount beside a chart: ``$150k``, ``$0.00002``."""
    return with_symbol(compact_number(nano / NANO) if nano >= 1000 * NANO else format_amount(round(nano)), currency)


def amount(nano: int, currency: str) -> Markup:
    """``amount_text`` with the exact amount in its title."""
    exact = format_amount(nano)
    return Markup('<data class="number" value="{}" title="{}">{}</data>').format(
        exact, with_symbol(exact, currency), amount_text(nano, currency)
    )


def price_of(pico: int, tokens: int, currency: str) -> Markup:
    """A price (pico-credits for one token or request) as what so many tokens (or requests) cost, with the exact price in its title.
    It ends with its last digit, and has two decimals at least."""
    exact = format_price(pico * tokens)
    text = re.sub(r"(\.\d\d\d*?)0+(?!\d)", r"\1", amount_text(nano_from_pico(pico * tokens), currency))
    return Markup('<data class="number" value="{}" title="{}">{}</data>').format(exact, with_symbol(exact, currency), text)


def count(number: int | None) -> Markup:
    """A whole number with separators."""
    return UNKNOWN if number is None else Markup('<span class="number">{}</span>').format(f"{number:,}")


def compact(number: int | None) -> Markup:
    """``12.3 k``, with the exact number in the title."""
    if number is None:
        return UNKNOWN
    return Markup('<span class="number" title="{}">{}</span>').format(f"{number:,}", compact_text(number))


def compact_text(number: float) -> str:
    """``950``, ``12.3 k``, ``4.56 M``."""
    size = abs(number)
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            return f"{number / factor:.3g} {unit}" if size < factor * 999.5 else f"{number / factor:.0f} {unit}"
    return f"{number:g}" if isinstance(number, int) else f"{number:.3g}"


def percent(part: float | None, whole: float | None = 1) -> Markup:
    """A share in percent; not known of nothing."""
    if part is None or not whole:
        return UNKNOWN
    share = 100 * part / whole
    return Markup('<span class="number" title="{}">{} %</span>').format(
        f"{share:.6g} %", f"{share:.0f}" if share in (0, 100) or share >= 99.95 else f"{share:.1f}"
    )


def duration(milliseconds: float | None) -> Markup:
    """``423 ms``, ``1.7 s``, ``2 min 5 s``."""
    if milliseconds is None:
        return UNKNOWN
    return Markup('<span class="number" title="{}">{}</span>').format(f"{milliseconds:,.6g} ms", duration_text(milliseconds))


def duration_text(milliseconds: float) -> str:
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def time(moment: int | str | None, form: str = "relative") -> Markup:
    """A time (microseconds or RFC 3339) in UTC, which the browser shows in its own zone. ``form``: relative | clock | log (with the
    date if it is not today's) | full."""
    if moment is None:
        return UNKNOWN
    exact = moment if isinstance(moment, str) else to_rfc3339(moment)
    parsed = datetime.fromisoformat(exact).astimezone(UTC)
    text = f"{parsed:%H:%M:%S}" if form == "clock" else f"{parsed:%Y-%m-%d %H:%M} UTC"
    return Markup('<local-time form="{}"><time datetime="{}" title="{}">{}</time></local-time>').format(
        form, exact, f"{parsed:%Y-%m-%d %H:%M:%S} UTC", text
    )


def size(number: int | None) -> Markup:
    """``512 bytes``, ``16 MiB``, with the exact number in the title."""
    if number is None:
        return UNKNOWN
    power = 0 if number < 1024 else min((number.bit_length() - 1) // 10, 4)
    text = f"{number:,} bytes" if power == 0 else f"{number / 1024**power:.3g} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
    return Markup('<span class="number" title="{} bytes">{}</span>').format(f"{number:,}", text)


def role_words(role: str) -> str:
    """``PlatformManager`` -> ``Platform manager``, ``BatchAPIUser`` -> ``Batch API user``."""
    first, *rest = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", role)
    return " ".join([first, *(word if word.isupper() else word.lower() for word in rest)])


_TAGS = {
    *("p", "br", "hr", "em", "strong", "del", "code", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6"),
    *("a", "table", "thead", "tbody", "tr", "th", "td"),
}


MOST_WORK = 64 * 1024
"""What one page renders at most, as ``markdown_work`` counts: more would keep everybody else waiting."""
_LINE, _CELL = 8, 4


def markdown_work(text: str | None) -> int:
    """What it takes to render Markdown, in characters. A line takes more than what is in it, and tables count by the cells that they may
    have: a row of one character has as many as the row above it."""
    cells = columns = rows = 0
    # Lines as Markdown has them: Python knows more characters that end a line, or are blank.
    lines = re.split(r"\r\n?|\n", text or "")
    for line in [*lines, ""]:
        if line.strip(" \t"):
            columns = max(columns, line.count("|"))
            rows += 1
        else:
            cells += columns * rows
            columns = rows = 0
    return len(text or "") + _LINE * len(lines) + _CELL * cells


def markdown(text: str | None) -> Markup:
    """Markdown of somebody whom we do not know. Pictures become links: a page loads nothing from elsewhere. What is more than
    ``MOST_WORK`` is shown as it was written."""
    if markdown_work(text) > MOST_WORK:
        return Markup('<p class="raw">{}</p>').format(text)
    # Imported when first wanted: most servers never show any.
    import nh3
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])

    def picture(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        token = tokens[index]
        return str(Markup('<a href="{}">{}</a>').format(token.attrGet("src") or "", token.content or "picture"))

    parser.add_render_rule("image", picture)
    clean = nh3.clean(
        parser.render(text or ""),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return Markup(clean)


def highlight(code: str, language: str = "json") -> Markup:
    """Source text with its parts marked by classes; as it is if the language is not known."""
    from pygments import highlight as marked
    from pygments.formatters.html import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return Markup("{}").format(code)
    return Markup(marked(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-")))


def _rounded(nano: int, digits: int) -> int:
    """``nano`` with its last ``digits`` digits rounded away."""
    step: int = 10**digits
    return (nano + step // 2) // step * step
