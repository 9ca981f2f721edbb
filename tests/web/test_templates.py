"""What no template may hold: the policy forbids it, or it would act on what others wrote."""

import re
from pathlib import Path

import pytest

from dwctl.web.assets import Assets
from dwctl.web.rendering import MACROS, TEMPLATES

ROOT = Path(__file__).resolve().parents[2]
SPRITE = ROOT / "static" / "icons.svg"
ALL = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html"))
FORBIDDEN = {
    "a style attribute": r"\sstyle\s*=",
    "a style element": r"<style\b",
    "a script in the page": r"<script\b(?![^>]*\bsrc=)",
    "a handler in an attribute": r"\son[a-z]+\s*=",
    "hx-on": r"\bhx-on\b",
    "an evaluated value": r"['\"]\s*js(on)?:|javascript:",
    "a filter in a trigger": r"hx-trigger\s*=\s*\"[^\"]*\[",
    "a browser's question": r"\bhx-confirm\b",
    "an address elsewhere": r"(?:src|action)\s*=\s*\"(?:https?:)?//",
    "text passed as markup": r"\|\s*safe\b|autoescape",
    "an htmx 2 attribute": r"\bhx-(?:disabled-elt|ext|vars|prompt|history-elt)\b",
}


@pytest.mark.parametrize("name", ALL)
def test_a_template_holds_nothing_forbidden(name: str) -> None:
    text = re.sub(r"\{#.*?#\}", "", (TEMPLATES / name).read_text(), flags=re.S)
    for what, pattern in FORBIDDEN.items():
        found = re.search(pattern, text, re.I)
        assert found is None, f"{name} has {what}: {found.group(0)}"
    if not name.startswith("macros/"):
        assert not re.search(r"\bhx-", text), f"{name}: htmx attributes belong into the macros"


BLOCKS = r"<(?:div|section|form|table|ul|ol|dl|p|h[1-6]|figure|fieldset|pre|nav|details)\b"
"""What ends a paragraph where it stands, so that what follows is outside of it."""


def _bodies() -> dict[str, str]:
    """The macros' texts by name, those of ``macros/a.html`` as ``a.b``; a call within its own file is written as from outside."""
    bodies = {}
    for path in (TEMPLATES / "macros").glob("*.html"):
        text = re.sub(r"\{#.*?#\}", "", path.read_text(), flags=re.S)
        own = dict(re.findall(r"\{% macro (\w+)\(.*?\) %\}(.*?)\{% endmacro %\}", text, re.S))
        calls = rf"(?<![\w.])({'|'.join(own)})\(" if own else r"(?!)"
        bodies |= {f"{path.stem}.{name}": re.sub(calls, rf"{path.stem}.\1(", body) for name, body in own.items()}
    return bodies


def _block_macros() -> set[str]:
    """The macros that write a block, by themselves or by another that they use."""
    bodies = _bodies()
    found = {name for name, body in bodies.items() if re.search(BLOCKS, body)}
    while more := {name for name, body in bodies.items() if name not in found and found & set(re.findall(r"\w+\.\w+(?=\()", body))}:
        found |= more
    return found


def broken_paragraphs(text: str, blocks: set[str]) -> list[str]:
    """The paragraphs of a template in which a block stands."""
    paragraphs = re.findall(r"<p\b[^>]*>(.*?)</p>", re.sub(r"\{#.*?#\}", "", text, flags=re.S), re.S)
    return [inside for inside in paragraphs if re.search(BLOCKS, inside) or blocks & set(re.findall(r"\w+\.\w+(?=\()", inside))]


def test_paragraphs_hold_no_blocks() -> None:
    blocks = _block_macros()
    assert {"forms.act", "forms.select", "snippets.code", "charts.stacked", "empty.state"} <= blocks
    assert blocks.isdisjoint({"badges.badge", "live.feed", "snippets.copyable", "icons.icon"})
    assert broken_paragraphs('<p class="hint">{{ forms.act("/x", "X") }}</p>', blocks)
    assert broken_paragraphs("<p>one <div>two</div></p>", blocks)
    assert broken_paragraphs("<p>{{ live.feed(x) }} Waiting</p><div>{{ forms.act(y) }}</div>", blocks) == []
    for name in ALL:
        assert broken_paragraphs((TEMPLATES / name).read_text(), blocks) == [], name


def test_every_file_of_macros_is_there_in_templates() -> None:
    assert {path.stem for path in (TEMPLATES / "macros").glob("*.html")} == set(MACROS)


@pytest.mark.parametrize("name", ALL)
def test_every_icon_and_asset_exists(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    assets = Assets()
    sprite = SPRITE.read_text()
    for icon in re.findall(r"""(?:icons\.icon\(|icon=)["']([a-z0-9-]+)["']""", text):
        assert f'id="{icon}"' in sprite, icon
    for asset in re.findall(r"""shell\.static\(["']([^"']+)["']\)""", text):
        assert assets.url(asset)


def test_every_icon_is_used_somewhere() -> None:
    written = [
        path.read_text() for folder, kind in ((TEMPLATES, "*.html"), (ROOT / "dwctl" / "web", "*.py")) for path in folder.rglob(kind)
    ]
    named = set(re.findall(r"""["']([a-z0-9-]+)["']""", "\n".join(written)))
    assert set(re.findall(r'<symbol id="([^"]+)"', SPRITE.read_text())) - named == set()


def classes(text: str) -> set[str]:
    """The classes that a template writes out, those in its expressions included."""
    found: set[str] = set()
    for value in re.findall(r'class="((?:\{\{.*?\}\}|\{%.*?%\}|[^"{])*)"', re.sub(r"\{#.*?#\}", "", text, flags=re.S)):
        value = re.sub(r"\{%.*?%\}", " ", value)
        found.update(re.sub(r"\S*\{\{.*?\}\}\S*", " ", value).split())
        for expression in re.findall(r"\{\{(.*?)\}\}", value):
            found.update(" ".join(re.findall(r'"([^"]*)"', expression)).split())
    return found


def test_every_class_has_a_rule_or_a_script_that_asks_for_it() -> None:
    assert classes('<p class="a b{% if x %} c{% endif %} {{ "d e" if y }} f-{{ z }}">') == {"a", "b", "c", "d", "e"}
    sheet, script = ((ROOT / "static" / name).read_text() for name in ("app.css", "app.js"))
    ruled = set(re.findall(r"\.([a-zA-Z][\w-]*)", sheet)) | set(re.findall(r"""[."']([a-zA-Z][\w-]*)""", script))
    for name in ALL:
        assert classes((TEMPLATES / name).read_text()) - ruled == set(), name


def test_every_icon_of_the_navigation_exists() -> None:
    from dwctl.web import TABLES
    from dwctl.web.pages import PageRoute

    sprite = SPRITE.read_text()
    for route in (route for table in TABLES for route in table):
        if isinstance(route, PageRoute) and route.nav is not None:
            assert f'id="{route.nav.icon}"' in sprite, route.nav.icon
