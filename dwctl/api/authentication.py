"""``/authentication``: native sign-in, registration, sign-out, password change, and a new password for a forgotten one."""

import msgspec

from dwctl.accounts.sessions import hash_token
from dwctl.api.context import Context
from dwctl.doorway import Answer, Authenticated, Public, Route, route, session_cookie, session_cookie_name
from dwctl.errors import bad_request
from dwctl.operations import password_reset, sign_in
from dwctl.operations.account_views import UserResponse

ROUTES: list[Route] = []
TAG = "authentication"


class Credentials(msgspec.Struct, kw_only=True):
    """Body of POST /authentication/login."""

    email: str
    password: str


class PasswordChange(msgspec.Struct, kw_only=True):
    """Body of POST /authentication/password-change."""

    current_password: str
    new_password: str


class ForgottenPassword(msgspec.Struct, kw_only=True):
    """Body of POST /authentication/password-resets."""

    email: str


class NewPassword(msgspec.Struct, kw_only=True):
    """Body of POST /authentication/password-resets/{token_id}/confirm. ``token`` is the one of the link in the mail."""

    token: str
    new_password: str


class Availability(msgspec.Struct):
    """Whether a way in is open."""

    enabled: bool
    message: str


class SignedIn(msgspec.Struct):
    """The user who is signed in now; the session is in the cookie."""

    user: UserResponse
    message: str


class Message(msgspec.Struct):
    message: str


@route(ROUTES, "GET", "/authentication/login", policy=Public(), returns=Availability, summary="Whether one can sign in", tag=TAG)
async def login_availability(context: Context) -> Availability:
    """Whether native sign-in is enabled."""
    enabled = context.services.config.auth.native.enabled
    return Availability(enabled, "Native login is enabled" if enabled else "Native login is disabled")


@route(ROUTES, "GET", "/authentication/register", policy=Public(), returns=Availability, summary="Whether one can register", tag=TAG)
async def register_availability(context: Context) -> Availability:
    """Whether registration is enabled."""
    native = context.services.config.auth.native
    enabled = native.enabled and native.allow_registration
    return Availability(enabled, "Registration is enabled" if enabled else "Registration is disabled")


@route(ROUTES, "POST", "/authentication/login", policy=Public(), body=Credentials, returns=SignedIn, summary="Sign in", tag=TAG)
async def login(context: Context) -> Answer:
    """Sign in with e-mail address and password; the answer sets the session's cookie."""
    user, token = await sign_in.sign_in(context.services, context.body.email, context.body.password, _client(context))
    return Answer(SignedIn(user, "Login successful"), cookies=[session_cookie(context.services, context.peer, token)])


@route(
    ROUTES,
    "POST",
    "/authentication/register",
    policy=Public(),
    body=sign_in.Registration,
    returns=SignedIn,
    status=201,
    summary="Register",
    tag=TAG,
)
async def register(context: Context) -> Answer:
    """Make an account and sign in to it."""
    user, token = await sign_in.register(context.services, context.body, _client(context))
    return Answer(SignedIn(user, "Registration successful"), cookies=[session_cookie(context.services, context.peer, token)])


@route(ROUTES, "POST", "/authentication/logout", policy=Public(), returns=Message, summary="Sign out", tag=TAG)
async def logout(context: Context) -> Answer:
    """End the session of the cookie, if there is one."""
    token = context.request.cookies.get(session_cookie_name(context.services, context.peer))
    if token:
        await sign_in.sign_out(context.services, hash_token(token))
    return Answer(Message("Logout successful"), cookies=[session_cookie(context.services, context.peer, None)])


@route(
    ROUTES,
    "POST",
    "/authentication/password-change",
    policy=Authenticated(),
    body=PasswordChange,
    returns=Message,
    summary="Change one's password",
    tag=TAG,
    needs_own_password=False,
)
async def change_password(context: Context) -> Message:
    """Set a new password; every other session of the user ends."""
    if context.actor.via == "api_key":
        raise bad_request("A password is changed by its owner, not with an API key")
    await sign_in.change_password(context.services, context.actor, context.body.current_password, context.body.new_password)
    return Message("Password changed successfully")


@route(
    ROUTES,
    "POST",
    "/authentication/password-resets",
    policy=Public(),
    body=ForgottenPassword,
    returns=Message,
    summary="Ask for a new password by mail",
    tag=TAG,
    needs_own_password=False,
)
async def ask_password_reset(context: Context) -> Message:
    """Mail a link to the account of this address, if there is one; the answer does not say. Without mail on this server it is a 400."""
    await password_reset.ask(context.services, context.body.email, context.peer.ip)
    return Message("If there is an account with this address, a link to choose a new password is on its way to it")


@route(
    ROUTES,
    "POST",
    "/authentication/password-resets/<token_id>/confirm",
    policy=Public(),
    body=NewPassword,
    returns=Message,
    summary="Set a forgotten password anew",
    tag=TAG,
    needs_own_password=False,
)
async def confirm_password_reset(context: Context) -> Message:
    """Set the password and end the account's sessions. The token alone says which link it is of: `token_id` may be any text."""
    await password_reset.reset(context.services, context.body.token, context.body.new_password, context.peer.ip)
    return Message("Password has been reset")


def _client(context: Context) -> sign_in.Client:
    return sign_in.Client(context.peer.ip, context.request.headers.get("user-agent"))
