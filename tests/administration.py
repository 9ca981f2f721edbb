"""The server's HTTP side in the test's own process: every route on a real socket, over a real database, without a provider."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from sanic import Sanic

from dwctl import ids
from dwctl.accounts import SYSTEM
from dwctl.api.health import State
from dwctl.config import Config
from dwctl.config.schema import Auth, Native, Password
from dwctl.doorway import PatientProtocol
from dwctl.operations import api_keys, users
from dwctl.operations.first_start import ensure_administrator
from dwctl.operations.services import Services
from dwctl.server import build_app, build_services, close_services
from dwctl.store import Changes, Store

ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "correct horse battery"
QUICK = Password(argon2_memory_kib=8, argon2_iterations=1)
"""Password hashing that costs tests nothing."""

Prepare = Callable[[Sanic, Services], None]


class Answer(msgspec.Struct):
    """What came back."""

    status: int
    body: Any
    headers: Any

    @property
    def message(self) -> str:
        text: str = self.body["message"]
        return text

    @property
    def param(self) -> str | None:
        name: str | None = self.body["error"]["param"]
        return name


class Administration:
    """A running server, and a client of it. ``secret`` of an API key, or ``cookie``, says who asks."""

    def __init__(self, url: str, services: Services, app: Sanic, client: aiohttp.ClientSession) -> None:
        self.url = url
        self.services = services
        self.app = app
        self.client = client

    async def ask(
        self,
        method: str,
        path: str,
        *,
        secret: str | None = None,
        cookie: str | None = None,
        json: Any = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; the path is under the server's URL."""
        sent = dict(headers or {})
        if secret is not None:
            sent["Authorization"] = f"Bearer {secret}"
        if cookie is not None:
            sent["Cookie"] = cookie
        if json is not None:
            data = msgspec.json.encode(json)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(method, self.url + path, data=data, headers=sent, allow_redirects=False) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return Answer(response.status, msgspec.json.decode(raw) if is_json and raw else raw, response.headers)

    async def admin(self, method: str, path: str, **options: Any) -> Answer:
        """A request of the administrator's, below /admin/api/v1."""
        return await self.ask(method, f"/admin/api/v1{path}", secret=await self.admin_secret(), **options)

    async def admin_secret(self) -> str:
        """A platform key of the administrator's."""
        if not hasattr(self, "_admin_secret"):
            [row] = await self.services.store.fetch("SELECT id FROM users WHERE live_email = ?", (ADMIN_EMAIL,))
            self._admin_secret = await self.key_of(str(row["id"]))
        return self._admin_secret

    async def person(self, *roles: Any, name: str | None = None) -> str:
        """A new user's id."""
        username = name or f"user-{ids.new_text()[-12:]}"
        body = users.UserCreate(username=username, email=f"{username}@example.com", roles=list(roles))
        return (await users.create_user(self.services, SYSTEM, body)).id

    async def key_of(self, user_id: str, purpose: Any = "platform") -> str:
        """The secret of a new key of a user's."""
        body = api_keys.ApiKeyCreate(name=f"key {ids.new_text()}", purpose=purpose)
        return (await api_keys.create_key(self.services, SYSTEM, user_id, body)).key

    async def password_user(self, email: str, password: str) -> str:
        """The id of a new user who signs in with a password."""
        columns = {
            "username": email,
            "email": email,
            "roles": ["StandardUser"],
            "auth_source": "native",
            "password_hash": await self.services.passwords.hash(password),
        }
        user_id = ids.new_text()
        await users.add_user(self.services, SYSTEM, user_id, columns)
        return user_id

    async def sign_in(self, email: str, password: str, **headers: str) -> Answer:
        return await self.ask("POST", "/authentication/login", json={"email": email, "password": password}, headers=headers)

    async def cookie_of(self, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> str:
        """The Cookie header of a new session."""
        answer = await self.sign_in(email, password)
        assert answer.status == 200, answer
        cookie: str = answer.headers["Set-Cookie"].split(";")[0]
        return cookie

    async def audit(self, action: str) -> list[Any]:
        """Rows of the audit trail with this action, newest first."""
        answer = await self.admin("GET", f"/audit?action={action}")
        assert answer.status == 200, answer
        rows: list[Any] = answer.body["data"]
        return rows


def configuration(data_dir: Path, database_url: str | None, **changes: Any) -> Config:
    """A configuration with quick password hashing."""
    auth = changes.pop("auth", None) or Auth(native=Native(password=QUICK))
    settings = {
        "admin_email": ADMIN_EMAIL,
        "admin_password": ADMIN_PASSWORD,
        "secret_key": "a secret key for tests only",
        "data_dir": data_dir,
        "auth": auth,
    }
    return Config(**settings | changes)


@contextlib.asynccontextmanager
async def serving(database_url: str | None, config: Config, prepare: Prepare | None = None) -> AsyncIterator[Administration]:
    """Serve on a free loopback port; ``prepare`` may add routes before the check of policies."""
    store = await Store.open(database_url, config.data_dir)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        services, gateway = await build_services(config, store, Changes(store), node=ids.new_text(), origins={})
        stack.push_async_callback(close_services, services, 5)
        await ensure_administrator(services)
        app = build_app(config, services, gateway, State(ready=True))
        if prepare is not None:
            prepare(app, services)
        # Sanic rewrites its own methods when it starts, which works once a process.
        app.config.TOUCHUP = False
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = await app.create_server(sock=listener, protocol=PatientProtocol, return_asyncio_server=True)
        assert server is not None
        await server.startup()
        await server.before_start()
        await server.after_start()
        stack.callback(server.close)
        client = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        yield Administration(f"http://127.0.0.1:{listener.getsockname()[1]}", services, app, client)
