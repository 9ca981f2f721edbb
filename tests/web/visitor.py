"""Somebody at the pages without a browser: forms are sent with the token of a page, and answers are read as text."""

import re
from collections.abc import Sequence
from html import unescape
from urllib.parse import urlencode

from tests.administration import ADMIN_EMAIL, ADMIN_PASSWORD, Administration, Answer

Fields = Sequence[tuple[str, str]]


class Visitor:
    """One session. What the server leaves in cookies is kept."""

    def __init__(self, server: Administration, cookie: str) -> None:
        self._server = server
        name, _, value = cookie.partition("=")
        self.cookies = {name: value}

    @classmethod
    async def sign_in(cls, server: Administration, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> "Visitor":
        return cls(server, await server.cookie_of(email, password))

    async def open(self, path: str, **headers: str) -> Answer:
        return await self._ask("GET", path, None, headers)

    async def send(self, path: str, fields: Fields, **headers: str) -> Answer:
        """Post a form."""
        token = hidden(await self._ask("GET", "/me", None, {}), "_csrf")
        body = urlencode([("_csrf", token), *fields]).encode()
        return await self._ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded", **headers})

    async def _ask(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self._server.ask(
            method, path, cookie=cookie, data=data, headers={"accept": "text/html", "origin": self._server.url, **named}
        )
        answer.body = answer.body.decode() if isinstance(answer.body, bytes) else answer.body
        for given in answer.headers.getall("Set-Cookie", ()):
            name, _, value = given.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer


def hidden(answer: Answer, name: str) -> str:
    """The value of the page's first hidden field of this name."""
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', answer.body)
    assert found is not None, f"no {name} in {answer.status}: {answer.body[-500:]}"
    return unescape(found.group(1))
