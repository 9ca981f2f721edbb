"""``/docs``: the documentation that is shipped with the program, ``docs/*.md`` as pages, so that help needs no other server."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dwctl.doorway import Authenticated, Route
from dwctl.errors import not_found
from dwctl.web.context import Context
from dwctl.web.formats import highlight
from dwctl.web.pages import View, page, view

ROUTES: list[Route] = []
FOLDER = Path(__file__).resolve().parents[2] / "docs"
FIRST = "getting-started"
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


@page(ROUTES, "GET", "/docs", policy=Authenticated(), summary="Documentation")
async def index(context: Context) -> View:
    """The pages there are."""
    return view("docs/index.html", titles={name: title for name, (title, _) in _documents().items()})


@page(ROUTES, "GET", "/docs/<document>", policy=Authenticated(), summary="A page of the documentation")
async def show(context: Context) -> View:
    """One page; ``billing`` and ``billing.md`` are the same."""
    name = context.parameters["document"].removesuffix(".md")
    if name not in _documents():
        raise not_found(f"The documentation has no page {name}")
    title, text = _documents()[name]
    return view("docs/page.html", title=title, content=_html(text))


@cache
def _documents() -> dict[str, tuple[str, str]]:
    """Name -> title and text without it, in the order of a list."""
    found = {}
    for path in sorted(FOLDER.glob("*.md"), key=lambda path: (path.stem != FIRST, path.stem)):
        text = path.read_text("utf-8")
        title = _TITLE.search(text)
        found[path.stem] = (title[1].replace("`", "") if title else path.stem, _TITLE.sub("", text, count=1))
    return found


@cache
def _html(text: str) -> Markup:
    """Our own Markdown as HTML: headings can be linked to, tables scroll by themselves."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def heading(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        words = "".join(child.content for child in tokens[index + 1].children or ())
        tokens[index].attrSet("id", re.sub(r"\W+", "-", words.lower()).strip("-"))
        return str(renderer.renderToken(tokens, index, options, environment))

    def table(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        return '<div class="table-box" tabindex="0" role="region" aria-label="Table"><table class="table">'

    def table_end(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        return "</table></div>"

    def code(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        token = tokens[index]
        return str(Markup('<pre tabindex="0"><code>{}</code></pre>').format(highlight(token.content, token.info.strip() or "text")))

    def picture(renderer: Any, tokens: Any, index: int, options: Any, environment: Any) -> str:
        return ""  # pictures of these pages are in the repository, not in the program

    rules = {"image": picture, "heading_open": heading, "table_open": table, "table_close": table_end, "fence": code, "code_block": code}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return Markup(parser.render(text))
