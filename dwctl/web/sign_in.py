"""``/login`` and ``/logout``."""

import msgspec

from dwctl.accounts.sessions import hash_token
from dwctl.doorway import Public, Route, session_cookie, session_cookie_name
from dwctl.operations import sign_in
from dwctl.web.context import Context
from dwctl.web.pages import Go, View, go, page, view
from dwctl.web.surface import PASSWORD_PAGE, safe_path

ROUTES: list[Route] = []


class LoginQuery(msgspec.Struct, kw_only=True):
    """Where to go on after signing in, and whether a session has just ended."""

    next: str | None = None
    ended: bool = False


class Credentials(msgspec.Struct, kw_only=True):
    email: str
    password: str
    next: str | None = None


@page(ROUTES, "GET", "/login", policy=Public(), query=LoginQuery, summary="Sign in", needs_own_password=False)
async def show_login(context: Context) -> View | Go:
    """The form, or on to where somebody who is signed in already wanted to go."""
    query = context.query or LoginQuery(next=context.form.value("next") if context.form else None)
    if context.visitor is not None and context.form is None:
        return go(safe_path(query.next))
    return _form(context, safe_path(query.next), ended=query.ended)


async def _again(context: Context) -> View:
    return _form(context, safe_path(context.form.value("next")))


@page(ROUTES, "POST", "/login", policy=Public(), form=Credentials, again=_again, summary="Sign in", needs_own_password=False)
async def login(context: Context) -> Go:
    """Begin a session and go on."""
    client = sign_in.Client(context.peer.ip, context.request.headers.get("user-agent"))
    user, token = await sign_in.sign_in(context.services, context.body.email, context.body.password, client)
    target = safe_path(context.body.next)
    return go(PASSWORD_PAGE if user.must_change_password else target, cookies=[session_cookie(context.services, context.peer, token)])


@page(ROUTES, "POST", "/logout", policy=Public(), summary="Sign out", needs_own_password=False)
async def logout(context: Context) -> Go:
    """End the session of the cookie."""
    token = context.request.cookies.get(session_cookie_name(context.services, context.peer))
    if token:
        await sign_in.sign_out(context.services, hash_token(token))
    return go("/login", "You are signed out.", cookies=[session_cookie(context.services, context.peer, None)])


def _form(context: Context, target: str, *, ended: bool = False) -> View:
    config = context.services.config
    return view("sign_in/login.html", next=target, ended=ended, native=config.auth.native.enabled)
