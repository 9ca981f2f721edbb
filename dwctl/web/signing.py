"""What the browser keeps for us, signed: the token in forms, the visitor's cookie before sign-in, the message for the next page.

The token of a form belongs to the session that it was made in, or before sign-in to the visitor's cookie, and needs no storage:
it is their HMAC. A page of another site can neither read it nor make it.
"""

import base64
import hmac
import secrets
from typing import Literal

import msgspec

from dwctl.doorway import session_cookie_name
from dwctl.web.context import Context

TOKEN_FIELD = "_csrf"
TOKEN_HEADER = "x-csrf-token"
_VISITOR, _FLASH = "dwctl_visitor", "dwctl_flash"


class Flash(msgspec.Struct):
    """A message for the next page. ``undo`` is a path that takes the act back, by a POST with ``fields``, within ``seconds``."""

    text: str
    kind: Literal["ok", "warn", "danger"] = "ok"
    undo: str | None = None
    fields: dict[str, str] = {}
    seconds: int = 10


class Signer:
    """Signs and checks under the installation's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def signature(self, purpose: str, text: str) -> str:
        digest = hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def sign(self, purpose: str, text: str) -> str:
        """The text with its signature. The text must have no dot."""
        return f"{text}.{self.signature(purpose, text)}"

    def open(self, purpose: str, signed: str) -> str | None:
        """The text that was signed, or None."""
        text, _, given = signed.partition(".")
        return text if text and same(given, self.signature(purpose, text)) else None


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


class Keepsakes:
    """What one browser keeps for us, and the cookies that change it."""

    def __init__(self, signer: Signer, context: Context) -> None:
        self._signer = signer
        self._secure = context.peer.scheme == "https"
        self.cookies: list[str] = []
        """Values of ``Set-Cookie`` for the answer."""
        cookies = context.request.cookies
        session = cookies.get(session_cookie_name(context.services, context.peer))
        actor = context.visitor
        self._session = session if actor is not None and actor.via == "session" else None
        self._visitor = signer.open("visitor", cookies.get(self._name(_VISITOR)) or "")
        self._flash = cookies.get(self._name(_FLASH))

    def token(self) -> str:
        """The token for a form of this browser's."""
        if self._session is not None:
            return self._signer.signature("form", self._session)
        if self._visitor is None:
            self._visitor = secrets.token_urlsafe(24)
            self._set(_VISITOR, self._signer.sign("visitor", self._visitor))
        return self._signer.signature("form", self._visitor)

    def accepts(self, token: str) -> bool:
        """Whether the token is of a form that this browser was given."""
        holder = self._session or self._visitor
        return holder is not None and same(token, self._signer.signature("form", holder))

    def flash(self) -> Flash | None:
        """The message left for this page; it is shown once."""
        if self._flash is None:
            return None
        self._set(_FLASH, None)
        text = self._signer.open("flash", self._flash)
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(text), type=Flash) if text else None
        except (ValueError, msgspec.MsgspecError):
            return None

    def leave(self, flash: Flash) -> None:
        """Leave a message for the next page."""
        text = base64.urlsafe_b64encode(msgspec.json.encode(flash)).decode()
        self._set(_FLASH, self._signer.sign("flash", text), seconds=60)

    def _name(self, name: str) -> str:
        return f"__Host-{name}" if self._secure else name

    def _set(self, name: str, value: str | None, *, seconds: int | None = None) -> None:
        age = 0 if value is None else seconds
        self.cookies.append(
            f"{self._name(name)}={value or ''}; Path=/; HttpOnly; SameSite=Lax"
            f"{'; Secure' if self._secure else ''}{'' if age is None else f'; Max-Age={age}'}"
        )
