"""``/forgot`` and ``/reset``: a new password by way of a link in a mail."""

import msgspec

from dwctl.doorway import Public, Route
from dwctl.operations import password_reset
from dwctl.web.context import Context
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, View, go, page, view

ROUTES: list[Route] = []


class AddressForm(msgspec.Struct, kw_only=True):
    email: str


class ResetQuery(msgspec.Struct, kw_only=True):
    link: str | None = None


class ResetForm(msgspec.Struct, kw_only=True):
    link: str
    new_password: str
    repeated_password: str


@page(ROUTES, "GET", "/forgot", policy=Public(), summary="Forgotten password", needs_own_password=False)
async def forgot(context: Context) -> View:
    """The form, or whom to ask if no mail can be sent."""
    return view("sign_in/forgot.html", available=password_reset.available(context.services), sent=None)


@page(ROUTES, "POST", "/forgot", policy=Public(), form=AddressForm, again=forgot, summary="Ask for a link", needs_own_password=False)
async def ask(context: Context) -> View:
    """Have a link sent, and say the same whether there is an account or not."""
    await password_reset.ask(context.services, context.body.email, context.peer.ip)
    return view("sign_in/forgot.html", available=True, sent=context.body.email)


@page(ROUTES, "GET", "/reset", policy=Public(), query=ResetQuery, summary="Choose a new password", needs_own_password=False)
async def show(context: Context) -> View:
    """The form for a link that works. The address holds the token, so no other page may learn it."""
    token = context.query.link or ""
    return await _form(context, token)


async def _again(context: Context) -> View:
    return await _form(context, context.form.value("link"))


@page(ROUTES, "POST", "/reset", policy=Public(), form=ResetForm, again=_again, summary="Set the new password", needs_own_password=False)
async def reset(context: Context) -> Go:
    """Set it; every session of the account ends."""
    form = context.body
    if form.new_password != form.repeated_password:
        raise wrong("repeated_password", "This is not the same as the new password.")
    await password_reset.reset(context.services, form.link, form.new_password, context.peer.ip)
    return go("/login", "Your password is changed. Sign in with the new one.")


async def _form(context: Context, token: str) -> View:
    usable = bool(token) and await password_reset.usable(context.services, token)
    least = context.services.config.auth.native.password.min_length
    return view("sign_in/reset.html", once=True, token=token, usable=usable, least=least)
