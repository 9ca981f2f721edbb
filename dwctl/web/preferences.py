"""How somebody likes pages to look, in a cookie that scripts may read: ``theme.density.shortcuts``.

The server writes it into the page, so that a page never appears in one theme and then turns into another.
"""

from typing import Any, Literal

import msgspec
from sanic.request import Request

COOKIE = "ui"
_YEAR = 365 * 86400


class Preferences(msgspec.Struct, frozen=True):
    theme: Literal["auto", "light", "dark"] = "auto"
    density: Literal["comfortable", "compact"] = "comfortable"
    shortcuts: Literal["on", "off"] = "on"

    def cookie(self) -> str:
        """The value of ``Set-Cookie``."""
        return f"{COOKIE}={self.theme}.{self.density}.{self.shortcuts}; Path=/; SameSite=Lax; Max-Age={_YEAR}"


def read_preferences(request: Request) -> Preferences:
    """What the cookie says, as far as it can be understood."""
    given: dict[str, Any] = dict(zip(Preferences.__struct_fields__, (request.cookies.get(COOKIE) or "").split("."), strict=False))
    try:
        return msgspec.convert(given, Preferences)
    except msgspec.ValidationError:
        return Preferences()
