"""Every page of the route table: strict policy without a violation, no serious finding of axe, no sideways scrolling, every role.

A new page is taken in by itself. A page with a parameter in its path is visited with the value that ``VALUES`` has for it.
"""

import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import axe_playwright_python
import pytest
from playwright.sync_api import APIResponse, Response

from dwctl.accounts import NIL
from dwctl.accounts.policy import GRANTS
from dwctl.config import ROLES
from dwctl.doorway import Needs, Public
from dwctl.web.pages import PageRoute
from tests.appliance import USER, model
from tests.browser.conftest import PASSWORD, SCREENSHOTS, Site, Watch, Watched, email_of, found, logged, page_routes, theme


def _a_key(site: Site) -> str:
    with closing(sqlite3.connect(site.appliance.data_dir / "dwctl.db")) as database:
        return str(UUID(str(database.execute("SELECT id FROM api_keys WHERE deleted_at IS NULL").fetchone()[0])))


VALUES: dict[str, Any] = {
    "endpoint_id": lambda site: found(site, "endpoints", "name", "sim"),
    "user_id": lambda site: found(site, "users?limit=100", "email", USER),
    "group_id": lambda _: NIL,
    "request_id": logged,
    "component": lambda _: "sanic",
    "document": lambda _: "billing",
    "key_id": _a_key,
    "model_id": lambda site: found(site, "models?search=chat", "alias", "chat"),
}
"""Path parameter -> a function of the site that gives a value for it."""

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")


@cache
def _axe() -> str:
    return AXE.read_text()


def _path(route: PageRoute, site: Site, values: dict[str, Any] = VALUES) -> str:
    path = route.template
    for name in route.parameters:
        assert name in values, f"{route.path}: say in VALUES of {__file__} how a {name} is found"
        path = path.replace("{" + name + "}", values[name](site))
    return path


def _streams(route: PageRoute) -> bool:
    """Whether the route is a download or a feed, which is no page to look at."""
    return route.path.startswith("/events/") or route.path.endswith((".csv", "/raw"))


def pages(site: Site, values: dict[str, Any] = VALUES) -> list[str]:
    return [_path(route, site, values) for route in page_routes() if not _streams(route)]


def _public() -> list[str]:
    return [route.path for route in page_routes() if isinstance(route.policy, Public)]


def look(window: Watched, path: str) -> list[str]:
    """The serious and critical findings of axe on the page that is open. It is evaluated, so that the policy stays as it is."""
    if not window.page.evaluate("() => 'axe' in window"):
        window.page.evaluate(_axe())
    found = window.page.evaluate("() => axe.run({resultTypes: ['violations']})")
    return [
        f"{path}: {violation['id']} {violation['help']} {[node['html'][:120] for node in violation['nodes'][:3]]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def show(window: Watched, path: str, look: str) -> None:
    """Keep a picture, if pictures are wanted."""
    if SCREENSHOTS:
        name = re.sub(r"\W+", "-", path).strip("-") or "home"
        window.page.screenshot(path=f"{SCREENSHOTS}/{name}-{look}.png")


def check_served(answer: Response | APIResponse | None, path: str, theme: str) -> None:
    assert answer is not None
    assert answer.status == 200, path
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy, path
    assert "default-src 'none'" in policy, path
    assert answer.headers["cache-control"] == "no-store", path
    text = answer.text()
    assert f'<html lang="en" data-theme="{theme}"' in text, path
    assert text.count("<h1") == 1, path


@pytest.mark.timeout(400)
def test_nothing_violates_the_policy_and_axe_finds_nothing(site: Site, watch: Watch) -> None:
    """The server is asked for each page in both themes. The one page that is loaded changes its theme as the button in its head does."""
    findings: list[str] = []
    stranger, member = watch(reduced_motion="reduce"), watch(reduced_motion="reduce")
    member.sign_in()
    open_to_all = [path for path in _public() if path != "/"]
    for window, paths in ((stranger, open_to_all), (member, [path for path in pages(site) if path not in open_to_all])):
        for path in paths:
            with theme(window, "dark"):
                check_served(window.page.request.get(window.url + path, headers={"accept": "text/html"}), path, "dark")
            with theme(window, "light"):
                check_served(window.open(path), path, "light")
            assert window.page.locator("h1").count() == 1, path
            for name in ("light", "dark"):
                window.page.evaluate("name => { document.documentElement.dataset.theme = name; }", name)
                findings += [f"{name} {finding}" for finding in look(window, path)]
                show(window, path, name)
    assert findings == []


SCREENS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "narrow": ({"width": 320}, ("comfortable", "compact", "forced")),
    "zoomed": ({"width": 640, "height": 400, "device_scale_factor": 2}, ("comfortable",)),
}
"""320 px, also with other looks; and 1280 px by 800 px at 200 % zoom."""

_WIDE = """() => [...document.querySelectorAll("body *")].filter((element) =>
  element.getBoundingClientRect().right > innerWidth + 1
  && !element.closest(".table-box, pre, .tabs, .visually-hidden, dialog, svg, .skip")).map((element) => element.outerHTML.slice(0, 120))"""
_BROKEN = """() => [...document.querySelectorAll(".crumbs li")].filter((crumb) =>
  crumb.clientHeight > 32 || crumb.textContent.length < 25 && crumb.scrollWidth > crumb.clientWidth).map((crumb) => crumb.textContent)"""


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_is_lost_on_a_small_screen(site: Site, watch: Watch, screen: str) -> None:
    options, looks = SCREENS[screen]
    window = watch(**options)
    page = window.page
    with theme(window, "dark"):
        window.sign_in()
        for path in pages(site):
            page.emulate_media(forced_colors="none")
            window.open(path)
            for name in looks:
                density = "compact" if name == "compact" else "comfortable"
                page.evaluate("density => { document.documentElement.dataset.density = density; }", density)
                if name == "forced":
                    page.emulate_media(forced_colors="active")
                where = f"{path}, {name}"
                assert page.evaluate(_WIDE) == [], where
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
                assert page.evaluate(_BROKEN) == [], where
                show(window, path, screen if name == "comfortable" else name)


LONG = {"user": f"{'u' * 64}@example.com", "group": "g" * 73, "endpoint": "e" * 60, "model": "m" * 75}


def test_long_names_push_nothing_aside(site: Site, watch: Watch) -> None:
    site.appliance.apply(
        {
            "groups": [{"name": LONG["group"]}],
            "users": [{"email": LONG["user"], "groups": [LONG["group"]]}],
            "endpoints": [{"name": LONG["endpoint"], "url": site.simulator.url, "api_key": "provider-key"}],
            "models": [model(LONG["model"], "sim-chat?long", groups=[LONG["group"]])],
        }
    )
    fields = {"user": "email", "group": "name", "endpoint": "name", "model": "alias"}
    at = {kind: f"/admin/{kind}s/{found(site, f'{kind}s', field, LONG[kind])}" for kind, field in fields.items()}
    shown = [f"{at[kind]}{page}" for kind in ("user", "group", "endpoint") for page in ("", "/delete")]
    window = watch(width=375)
    window.sign_in()
    for path in (*shown, f"{at['endpoint']}/models", f"{at['model']}/access", f"{at['model']}/danger", "/admin/endpoints/new"):
        window.open(path)
        assert window.page.evaluate("document.documentElement.scrollWidth") <= 375, path
    window.page.set_viewport_size({"width": 1280, "height": 800})
    for path in ("/admin/users", "/admin/groups", "/admin/endpoints", "/admin/models", "/models", "/admin/access"):
        window.open(path)
        wide = window.page.locator(".table-box").evaluate_all("boxes => boxes.map(box => box.scrollWidth - box.clientWidth)")
        assert wide == [0], f"{path}: all columns are in sight"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_what_the_table_says(site: Site, watch: Watch, role: str) -> None:
    window = watch()
    window.expect(403, 404)
    window.sign_in(email_of(role), PASSWORD)
    granted = {name: set(GRANTS[role].get(name, ())) | set(GRANTS["StandardUser"].get(name, ())) for name in GRANTS["PlatformManager"]}
    granted["Requests"] = {*GRANTS[role].get("Requests", ()), *GRANTS["StandardUser"]["Requests"]}

    def may(route: PageRoute) -> bool:
        return not isinstance(route.policy, Needs) or route.policy.operation in granted.get(route.policy.resource, set())

    seen = [route for route in page_routes() if not _streams(route)]
    refused = [route for route in seen if not may(route)]
    # Every refusal is the same page: the browser looks at the first.
    for route in [route for route in seen if may(route)] + refused[:1]:
        answer = window.open(_path(route, site))
        assert answer is not None
        assert (answer.status == 403) is not may(route), f"{role} at {route.path}: {answer.status}"
        if answer.status == 403:
            assert "It needs one of these roles" in window.page.inner_text("main")
    for route in refused:
        refusal = window.page.request.get(window.url + _path(route, site), headers={"accept": "text/html"})
        assert refusal.status == 403, f"{role} at {route.path}: {refusal.status}"
        assert "It needs one of these roles" in refusal.text(), f"{role} at {route.path}"
    shown = {link.get_attribute("href") for link in window.page.locator("#nav li a").all()}
    assert shown == {route.path for route in page_routes() if route.nav is not None and may(route)}
    for route in page_routes("POST"):
        if not isinstance(route.policy, Needs) or may(route):
            continue
        path = route.template
        for name in route.parameters:
            path = path.replace("{" + name + "}", VALUES[name](site))
        token = window.page.locator("input[name=_csrf]").first.get_attribute("value") or ""
        forged = window.page.request.post(window.url + path, form={"_csrf": token}, headers={"accept": "text/html"})
        assert forged.status == 403, f"{role}: POST {path}"
        assert any((entry["method"], entry["path"]) == ("POST", route.path) for entry in site.appliance.events("forbidden")), path


def test_nobody_gets_a_page_without_signing_in(site: Site, watch: Watch) -> None:
    window = watch()
    for route in page_routes():
        if isinstance(route.policy, Public):
            continue
        path = _path(route, site)
        answer = window.page.request.get(window.url + path, max_redirects=0, headers={"accept": "text/html"})
        assert answer.status == 303, path
        assert answer.headers["location"] == f"/login?next={path}", path
    for route in page_routes("POST"):
        if not isinstance(route.policy, Public):
            path = re.sub(r"\{\w+\}", "x", route.template)
            answer = window.page.request.post(window.url + path, max_redirects=0, headers={"accept": "text/html"})
            assert answer.status == 303, path
