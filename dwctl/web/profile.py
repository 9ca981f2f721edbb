"""``/me``: one's name, password and sessions, and how pages look."""

from typing import Literal

import msgspec

from dwctl.doorway import Authenticated, Public, Route
from dwctl.operations import users
from dwctl.operations.sessions import end_other_sessions, end_own_session, own_sessions
from dwctl.web.context import Context
from dwctl.web.pages import Go, Nav, View, go, page, view
from dwctl.web.preferences import read_preferences
from dwctl.web.surface import safe_path

ROUTES: list[Route] = []


class NameForm(msgspec.Struct, kw_only=True):
    display_name: str | None = None
    revision: int


class PreferencesForm(msgspec.Struct, kw_only=True):
    theme: Literal["auto", "light", "dark"] | None = None
    density: Literal["comfortable", "compact"] | None = None
    shortcuts: Literal["on", "off"] | None = None
    next: str | None = None


class SessionForm(msgspec.Struct, kw_only=True):
    session: str


@page(ROUTES, "GET", "/me", policy=Authenticated(), summary="Profile", nav=Nav("Account", "Profile", "user-round-cog", 90, key="p"))
async def profile(context: Context) -> View:
    """The page."""
    services, actor = context.services, context.actor
    user = await users.read_user(services, actor.user_id)
    sessions = await own_sessions(services, actor)
    return view("profile/page.html", user=user, sessions=sessions, native=services.config.auth.native.enabled)


@page(ROUTES, "POST", "/me/name", policy=Authenticated(), form=NameForm, again=profile, summary="Change one's name")
async def rename(context: Context) -> Go:
    """Change the name that others see."""
    change = users.UserUpdate(display_name=context.body.display_name or "")
    await users.update_user(context.services, context.actor, context.actor.user_id, change, revision=context.body.revision)
    return go("/me", "Your name is saved.")


@page(ROUTES, "POST", "/me/sessions/end", policy=Authenticated(), form=SessionForm, again=profile, summary="End a session")
async def end_session(context: Context) -> Go:
    """Sign out somewhere else."""
    await end_own_session(context.services, context.actor, context.body.session)
    return go("/me", "That session has ended.")


@page(ROUTES, "POST", "/me/sessions/end-others", policy=Authenticated(), summary="End all other sessions")
async def end_others(context: Context) -> Go:
    """Sign out everywhere else."""
    await end_other_sessions(context.services, context.actor)
    return go("/me", "You are signed out everywhere else.")


async def _again(context: Context) -> View | Go:
    return await profile(context) if context.visitor is not None else go("/login")


@page(ROUTES, "POST", "/preferences", policy=Public(), form=PreferencesForm, again=_again, summary="Choose how pages look")
async def choose(context: Context) -> Go:
    """Keep the choice in this browser."""
    form = context.body
    before = read_preferences(context.request)
    chosen = {name: value for name in ("theme", "density", "shortcuts") if (value := getattr(form, name)) is not None}
    return go(safe_path(form.next), cookies=[msgspec.structs.replace(before, **chosen).cookie()])
