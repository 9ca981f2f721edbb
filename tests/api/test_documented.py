"""What the documentation says of accounts, done: its lines on a fresh server, its nginx in front of one."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from dwctl.accounts import SYSTEM
from dwctl.config.schema import Auth, Native, ProxyHeader
from dwctl.operations import sign_in
from tests.administration import ADMIN_EMAIL, QUICK, Administration, configuration, serving
from tests.appliance import ROOT, free_port, until
from tests.pasted import execute
from tests.web.visitor import Visitor, hidden

CURRENT = "/admin/api/v1/users/current"
FORGED = {"X-Doubleword-User": ADMIN_EMAIL, "X-Doubleword-Email": ADMIN_EMAIL, "X-Doubleword-User-Groups": "bosses"}


def lines(page: str, heading: str) -> str:
    """The indented lines below a heading of a page."""
    section = (ROOT / "docs" / page).read_text().split(f"# {heading}\n")[1].split("\n#")[0]
    return "\n".join(re.findall(r"^    (.*)", section, re.MULTILINE))


async def test_the_lines_of_getting_started_work_on_a_fresh_server(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        [row] = await server.services.store.fetch("SELECT id FROM users WHERE live_email = ?", (ADMIN_EMAIL,))
        printed = await sign_in.give_password(server.services, SYSTEM, str(row["id"]))
        code = lines("getting-started.md", "The same by API")
        for documented, here in (("http://127.0.0.1:3001", server.url), ("admin@localhost", ADMIN_EMAIL), ("PRINTED", printed)):
            assert documented in code
            code = code.replace(documented, here)
        answered = await asyncio.to_thread(execute, "bash", code, tmp_path)
        assert answered.endswith('{"data":[],"total_count":0,"skip":0,"limit":10}'), answered


async def test_the_line_that_registers_works(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    auth = Auth(native=Native(password=QUICK, allow_registration=True))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        code = lines("sign-in.md", "Accounts that people make themselves").replace("http://127.0.0.1:3001", server.url)
        assert "Registration successful" in await asyncio.to_thread(execute, "bash", code, tmp_path)


async def test_texts_are_not_kept_by_the_line_or_by_the_box_on_the_page(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        user = await server.person()
        code = lines("users-and-groups.md", "Users whose texts are not kept").replace("http://127.0.0.1:3001", server.url)
        answered = await asyncio.to_thread(execute, "bash", code.replace("sk-...", await server.key_of(user)), tmp_path)
        assert '"zero_data_retention":true' in answered
        visitor, path = await Visitor.sign_in(server), f"/admin/users/{user}"
        box = re.compile(r'name="zero_data_retention"[^>]* checked')
        for fields, kept in (([], True), ([("zero_data_retention", "true")], False)):
            page = await visitor.open(path)
            assert bool(box.search(page.body)) is kept
            await visitor.send(path, [("revision", hidden(page, "revision")), *fields])
            assert (await server.admin("GET", f"/users/{user}")).body["zero_data_retention"] is not kept


@pytest.fixture
async def identity() -> AsyncIterator[int]:
    """The port of what answers as oauth2-proxy does: whoever has the cookie is Ada."""

    async def auth(request: web.Request) -> web.Response:
        if request.cookies.get("who") != "ada":
            return web.Response(status=401)
        told = {"X-Auth-Request-User": "ada-1", "X-Auth-Request-Email": "ada@example.com", "X-Auth-Request-Groups": "crew,pilots"}
        return web.Response(status=202, headers=told)

    app = web.Application()
    app.router.add_get("/oauth2/auth", auth)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


@contextmanager
def nginx(program: Path, home: Path, server_url: str, identity: int) -> Iterator[str]:
    """nginx with the documented configuration, without TLS; its address."""
    [documented] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs" / "sign-in.md").read_text(), re.DOTALL)
    port = free_port()
    server = re.sub(r"ssl_certificate.*\n", "", documented).replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    server = server.replace("http://127.0.0.1:3001", server_url).replace("127.0.0.1:4180", f"127.0.0.1:{identity}")
    folders = "".join(f"{folder}_temp_path {home}/{folder};" for folder in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {home}/pid; error_log stderr warn; events {{}} http {{ access_log off; {folders}\n{server} }}"
    )
    log = home / "nginx.log"
    process = subprocess.Popen([program, "-p", home, "-c", home / "nginx.conf"], stderr=log.open("wb"))
    try:
        until(lambda: (home / "pid").exists() and (home / "pid").read_text(), 10, "nginx listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
    assert "[emerg]" not in log.read_text()


async def test_the_documented_proxy_signs_people_in_and_nobody_else_by_headers(
    sqlite_url: str, data_dir: Path, tmp_path: Path, nginx_program: Path, identity: int
) -> None:
    auth = Auth(native=Native(enabled=False, password=QUICK), proxy_header=ProxyHeader(enabled=True, import_idp_groups=True))
    config = configuration(data_dir, sqlite_url, auth=auth, trusted_proxies=("127.0.0.1",))
    async with serving(sqlite_url, config) as server:
        secret = await server.admin_secret()
        with nginx(nginx_program, tmp_path, server.url, identity) as address:
            outside = Administration(address, server.services, server.app, server.client)
            # A browser without a session is sent to sign in, whatever headers it makes up.
            answer = await outside.ask("GET", "/keys", headers=FORGED | {"accept": "text/html"})
            assert (answer.status, answer.headers["Location"]) == (302, f"{address}/oauth2/start?rd=/keys")
            # With one it is who the identity provider says.
            page = await outside.ask("GET", "/me", cookie="who=ada", headers=FORGED | {"accept": "text/html"})
            assert (page.status, b"ada@example.com" in page.body, ADMIN_EMAIL.encode() in page.body) == (200, True, False)
            groups = await outside.admin("GET", "/groups")
            assert {group["name"] for group in groups.body["data"]} >= {"crew", "pilots"}
            assert "bosses" not in str(groups.body)
            # Forms come from the site that the browser sees.
            visitor = Visitor(outside, "who=ada")
            made = await visitor.send("/keys/new", [("name", "laptop"), ("purpose", "realtime")])
            assert (made.status, "sk-" in made.body) == (200, True)
            # Programs bring their keys, and headers do them no good.
            assert (await outside.ask("GET", CURRENT, secret=secret)).body["email"] == ADMIN_EMAIL
            for path in (CURRENT, "/ai/v1/models"):
                assert (await outside.ask("GET", path, headers=FORGED)).status == 401
