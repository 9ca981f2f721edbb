"""A real server, a real Chromium, and somebody who watches: a test fails on whatever the browser complains about."""

import contextlib
import http.client
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, expect, sync_playwright

from dwctl.config import ROLES
from dwctl.web import TABLES
from dwctl.web.pages import PageRoute
from tests.appliance import (
    ADMIN_EMAIL,
    ADMIN_PASSWORD,
    FROM_SOURCE,
    KEY,
    PRICE,
    Appliance,
    Simulator,
    free_port,
    model,
    running,
    setup,
    until,
)

PASSWORD = "a password of their own"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
_STATUS = re.compile(r"responded with a status of (\d{3})")
SCREENSHOTS = os.environ.get("DWCTL_SCREENSHOTS")
"""A folder that gets a picture of every page that the walk visits."""

PATIENCE_MS = 15_000
"""For whatever a page does or shows: a busy machine takes seconds for what is otherwise there at once."""
expect.set_options(timeout=PATIENCE_MS)


@dataclass(eq=False)
class Site:
    """The server that the tests of a module share, with one user for each role. What a test changes, it names by itself.

    Under the name ``localhost`` it is another origin to a browser, whose pages may call the API.
    """

    appliance: Appliance
    simulator: Simulator

    @property
    def url(self) -> str:
        return self.appliance.url


@dataclass
class Watched:
    """A browser's window in which nothing may go wrong, except what the test says it expects."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)
    """Statuses that a page may be answered with."""

    def expect(self, *statuses: int) -> None:
        self.expected.update(statuses)

    def forgive(self, *words: str) -> None:
        """Forget the complaints with one of these words: what the browser said of what the test itself has broken."""
        self.complaints[:] = [complaint for complaint in self.complaints if not any(word in complaint for word in words)]

    def open(self, path: str) -> Response | None:
        return self.page.goto(self.url + path)

    def sign_in(self, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> None:
        """Give the window a session, and what every page loads. The page for signing in has tests of its own."""
        answer = self.page.context.request.post(f"{self.url}/authentication/login", data={"email": email, "password": password})
        assert answer.ok, answer.text()
        self.open("/me")

    def listen(self) -> None:
        page = self.page
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("request", self._asked)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', event =>"
            " console.error('policy violated: ' + event.violatedDirective + ' ' + event.blockedURI))"
        )

    def _said(self, message: ConsoleMessage) -> None:
        status = _STATUS.search(message.text)
        if message.type in ("error", "warning") and not (status and int(status.group(1)) in self.expected):
            self.complaints.append(f"console: {message.text} ({message.location})")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc and not request.url.startswith(("data:", "blob:")):
            self.complaints.append(f"asked elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        # A page that is left takes what it was still asking for with it.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.complaints.append(f"answered {response.status}: {response.url}")


Watch = Callable[..., Watched]


def email_of(role: str) -> str:
    return f"{role.lower()}@example.com"


def page_routes(method: str = "GET") -> list[PageRoute]:
    """The pages of the program, from its own table."""
    return [route for table in TABLES for route in table if isinstance(route, PageRoute) and route.method == method]


@pytest.fixture(scope="module")
def program() -> Sequence[str]:
    """What is tested: the checkout. A module that says otherwise runs its tests against the one-file program."""
    return FROM_SOURCE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, program: Sequence[str]) -> Iterator[Site]:
    directory: Path = tmp_path_factory.mktemp("site")

    def document(url: str) -> dict[str, Any]:
        described = setup(url, [model("chat", "sim-chat", prices=[PRICE]), model("failing", "sim-500", prices=[PRICE])])
        described["users"] += [{"email": email_of(role), "roles": [role]} for role in ROLES]
        return described

    port = free_port()
    cors = {"allowed_origins": [f"http://localhost:{port}"]}
    settings = {"auth": {"native": {"password": {"argon2_memory_kib": 8, "argon2_iterations": 1}}, "security": {"cors": cors}}}
    with running(directory, document, settings=settings, program=program, port=port) as (appliance, simulator):
        give_passwords(appliance)
        yield Site(appliance, simulator)


def give_passwords(appliance: Appliance) -> None:
    """Let everybody who has no password sign in with ``PASSWORD``: written beside the server, since seven commands take seconds."""
    hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with contextlib.closing(sqlite3.connect(appliance.data_dir / "dwctl.db", timeout=10, isolation_level=None)) as database:
        database.execute("UPDATE users SET password_hash = ? WHERE password_hash IS NULL", [hashed])


def give_password(appliance: Appliance, email: str, *, must_change: bool = False) -> str:
    """Let somebody sign in with ``PASSWORD``, or with the made password that is returned, which they must change."""
    made = appliance.command("admin", "reset-password", "--email", email).stdout.split()[-1]
    if must_change:
        return made
    change_made_password(appliance, email, made)
    return PASSWORD


def change_made_password(appliance: Appliance, email: str, made: str) -> None:
    """Sign in with the made password and change it to ``PASSWORD``, by the API."""
    connection = http.client.HTTPConnection("127.0.0.1", appliance.port, timeout=10)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/authentication/login", json.dumps({"email": email, "password": made}), headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, email
    headers["cookie"] = str(answer.headers["set-cookie"]).split(";")[0]
    body = {"current_password": made, "new_password": PASSWORD}
    connection.request("POST", "/authentication/password-change", json.dumps(body), headers)
    assert connection.getresponse().status == 200, email
    connection.close()


def found(site: Site, listing: str, field: str, value: str) -> str:
    """The id of what the API lists under ``/admin/api/v1`` with this value in a field."""
    connection = http.client.HTTPConnection("127.0.0.1", site.appliance.port, timeout=10)
    credentials = json.dumps({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD})
    connection.request("POST", "/authentication/login", credentials, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.request(
        "GET",
        f"/admin/api/v1/{listing}{'&' if '?' in listing else '?'}limit=100",
        headers={"cookie": str(answer.headers["set-cookie"]).split(";")[0]},
    )
    listed = json.loads(connection.getresponse().read())
    connection.close()
    rows = listed if isinstance(listed, list) else listed.get("data") or listed["entries"]
    return next(str(row["id"]) for row in rows if row[field] == value)


def chat(site: Site, model: str = "chat", *, key: str = KEY) -> str:
    """Ask a model; the request's id."""
    connection = http.client.HTTPConnection("127.0.0.1", site.appliance.port, timeout=10)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "x-dwctl-tags": "checkout, team=search"}
    connection.request("POST", "/ai/v1/chat/completions", body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return str(answer.headers["x-request-id"])


@cache
def logged(site: Site) -> str:
    """The id of a request that the log has."""
    request_id = chat(site)

    def is_logged() -> bool:
        with contextlib.suppress(StopIteration):
            return bool(found(site, "requests", "id", request_id))
        return False

    until(is_logged, 10, "the request is in the log")
    return request_id


def chromium() -> str | None:
    """The browser's program; of Debian's two the one without windows, which takes half the time."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser lives while a worker is in this folder, no longer: playwright keeps a running event loop in the thread, beside which
    no test of asyncio could run."""
    program = chromium()
    if program is None:
        message = "Chromium is not installed (apt-get install chromium-headless-shell): tests of the pages are skipped"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def watch(browser: Browser, site: Site) -> Iterator[Watch]:
    """Opens windows; ``watch(scripts=False, width=320, theme="dark")``. At the end nothing may have gone wrong in any."""
    windows: list[Watched] = []
    contexts: list[BrowserContext] = []

    def open_window(*, scripts: bool = True, width: int = 1280, height: int = 800, url: str | None = None, **options: Any) -> Watched:
        context = browser.new_context(java_script_enabled=scripts, viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        window = Watched(context.new_page(), url or site.url)
        window.listen()
        windows.append(window)
        return window

    yield open_window
    for context in contexts:
        context.close()
    assert [complaint for window in windows for complaint in window.complaints] == []


@pytest.fixture
def admin(watch: Watch) -> Watched:
    """A window in which the administrator is signed in."""
    window = watch()
    window.sign_in()
    return window


@contextmanager
def theme(window: Watched, name: str) -> Iterator[None]:
    """The window's pages in a theme."""
    window.page.context.add_cookies([{"name": "ui", "value": f"{name}.comfortable.on", "url": window.url}])
    yield
