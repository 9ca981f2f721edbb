"""The program with one more page: ``/gallery`` shows every macro, with a filter, a feed, a form, a secret and a download.

To look at it:  python -m tests.browser.gallery.program serve
"""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from dwctl import cli, web
from dwctl.doorway import Authenticated, Context, Message, Needs, Route, feed
from dwctl.web import rendering
from dwctl.web.exports import csv_download
from dwctl.web.pages import Nav, View, go, page, view
from dwctl.web.signing import Flash

ROUTES: list[Route] = []
NAMES = ["alpha", "beta", "gamma", "=SUM(A1)", '"quoted", with a comma', "<script>alert(1)</script>"]


class Query(msgspec.Struct, kw_only=True):
    q: str | None = None
    sort: str | None = None
    page: int = 1


class Sample(msgspec.Struct, kw_only=True):
    name: Annotated[str, msgspec.Meta(max_length=20)]
    size: Annotated[int, msgspec.Meta(ge=1, le=9)]
    note: str | None = None
    kind: Literal["a", "b"]
    tier: Literal["gold"] | None = None
    active: bool = False
    groups: list[str] = []


@page(
    ROUTES, "GET", "/gallery", policy=Authenticated(), query=Query, summary="Every part", nav=Nav("Build", "Gallery", "boxes", 1, key="x")
)
async def gallery(context: Context) -> View:
    query = context.query or Query()
    names = sorted((name for name in NAMES if (query.q or "") in name), reverse=query.sort == "-name")
    return view("gallery.html", query=query, words={"q": query.q, "sort": query.sort}, names=names)


@page(ROUTES, "POST", "/gallery", policy=Authenticated(), form=Sample, again=gallery, summary="A form")
async def send(context: Context) -> Any:
    return go("/gallery", Flash(f"Saved {context.body.name}.", undo="/gallery/undo", fields={"name": context.body.name}))


@page(ROUTES, "POST", "/gallery/undo", policy=Authenticated(), summary="Undo")
async def undo(context: Context) -> Any:
    return go("/gallery", "It is as it was.")


@page(ROUTES, "GET", "/gallery/broken", policy=Authenticated(), summary="What breaks")
async def broken(context: Context) -> Any:
    raise RuntimeError("as it had to come")


@page(ROUTES, "POST", "/gallery/secret", policy=Authenticated(), summary="A secret")
async def secret(context: Context) -> View:
    return view("secret.html", once=True, secret="sk-shown-once-123")


@page(ROUTES, "GET", "/gallery/guarded", policy=Needs("System", "system_access"), summary="For administrators")
async def guarded(context: Context) -> View:
    return view("secret.html", secret="none")


@page(ROUTES, "GET", "/gallery/names.csv", policy=Authenticated(), summary="A download")
async def names(context: Context) -> Any:
    async def rows() -> AsyncIterator[list[object]]:
        for number, name in enumerate(NAMES):
            yield [number, name]

    return csv_download("names of today", ["number", "name"], rows())


@page(ROUTES, "GET", "/events/gallery", policy=Authenticated(), summary="A feed")
async def events(context: Context) -> Any:
    async def messages(last: str | None) -> AsyncIterator[Message]:
        for number in range(int(last or 0) + 1, 4):
            yield Message(str(number), f'<hx-partial hx-target="#fed" hx-swap="beforeend"><li>message {number}</li></hx-partial>')

    return feed(context, messages)


web.TABLES += (ROUTES,)
rendering.FOLDERS.append(Path(__file__).parent)

if __name__ == "__main__":
    cli.program()
