"""``/password``: a new password, for oneself while signed in; the first thing for whoever was given one by somebody else."""

import msgspec

from dwctl.doorway import Authenticated, Route
from dwctl.errors import GatewayError
from dwctl.operations import sign_in
from dwctl.web.context import Context
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, View, go, page, view

ROUTES: list[Route] = []


class PasswordForm(msgspec.Struct, kw_only=True):
    current_password: str
    new_password: str
    repeated_password: str


@page(ROUTES, "GET", "/password", policy=Authenticated(), summary="Change password", needs_own_password=False)
async def show(context: Context) -> View:
    """The form."""
    return view(
        "sign_in/password.html", first=context.actor.must_change_password, least=context.services.config.auth.native.password.min_length
    )


@page(
    ROUTES, "POST", "/password", policy=Authenticated(), form=PasswordForm, again=show, summary="Change password", needs_own_password=False
)
async def change(context: Context) -> Go:
    """Set it; every other session ends."""
    form = context.body
    if form.new_password != form.repeated_password:
        raise wrong("repeated_password", "This is not the same as the new password.")
    if form.new_password == form.current_password:
        raise wrong("new_password", "This is the password that you have now. Choose another one.")
    first = context.actor.must_change_password
    try:
        await sign_in.change_password(context.services, context.actor, form.current_password, form.new_password)
    except GatewayError as error:
        if error.status == 401:
            raise wrong("current_password", "This is not your present password.") from None
        raise
    return go("/" if first else "/me", "Your password is changed. You are signed out everywhere else.")
