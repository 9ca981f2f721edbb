"""What no template may hold: the policy forbids it, or it would act on what others wrote."""

import re
from pathlib import Path

import pytest

from dwctl.web.assets import Assets
from dwctl.web.rendering import MACROS, TEMPLATES

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


def test_every_file_of_macros_is_there_in_templates() -> None:
    assert {path.stem for path in (TEMPLATES / "macros").glob("*.html")} == set(MACROS)


@pytest.mark.parametrize("name", ALL)
def test_every_icon_and_asset_exists(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    assets = Assets()
    sprite = (Path(__file__).resolve().parents[2] / "static" / "icons.svg").read_text()
    for icon in re.findall(r"""(?:icons\.icon\(|icon=)["']([a-z0-9-]+)["']""", text):
        assert f'id="{icon}"' in sprite, icon
    for asset in re.findall(r"""shell\.static\(["']([^"']+)["']\)""", text):
        assert assets.url(asset)


def test_every_icon_of_the_navigation_exists() -> None:
    from dwctl.web import TABLES
    from dwctl.web.pages import PageRoute

    sprite = (Path(__file__).resolve().parents[2] / "static" / "icons.svg").read_text()
    for route in (route for table in TABLES for route in table):
        if isinstance(route, PageRoute) and route.nav is not None:
            assert f'id="{route.nav.icon}"' in sprite, route.nav.icon
