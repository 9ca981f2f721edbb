"""Signing in and out with a password, and changing it."""

from typing import Any

import msgspec
import structlog

from dwctl import clock, ids
from dwctl.accounts import CLI, Actor, policy
from dwctl.accounts.attempts import subscriber
from dwctl.accounts.passwords import Passwords, generate
from dwctl.accounts.sessions import end_access_of, end_session, open_session
from dwctl.config import Config
from dwctl.errors import GatewayError, bad_request, forbidden, unauthenticated
from dwctl.operations.account_views import UserResponse
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_text, optional_text
from dwctl.operations.services import Services
from dwctl.operations.users import EMAIL_TAKEN, add_user, check_email, live_user, read_user, with_standard
from dwctl.store import Store, Tx

_log = structlog.get_logger("dwctl.operations")

WRONG = "Invalid email or password"


class Registration(msgspec.Struct, kw_only=True):
    """Body of POST /authentication/register."""

    username: str
    email: str
    password: str
    display_name: str | None = None


class Client(msgspec.Struct, frozen=True):
    """Where somebody signs in from."""

    ip: str
    user_agent: str | None


async def sign_in(services: Services, email: str, password: str, client: Client) -> tuple[UserResponse, str]:
    """The user and the token of a new session. An unknown address, an account without a password and a wrong password look the
    same, and take the same time. Raises GatewayError 400 (native sign-in is off), 401, 429."""
    _require_native(services)
    address = email.strip().lower()
    count_attempt(services, address, client.ip)
    rows = await services.store.fetch("SELECT id, password_hash FROM users WHERE live_email = ?", (address,))
    stored = rows[0]["password_hash"] if rows else None
    if not await services.passwords.verify(stored, password) or stored is None:
        _log.info("sign-in failed", client_ip=client.ip)
        raise unauthenticated(WRONG)
    services.attempts_by_account.forgive(address[:320])
    services.attempts_by_address.forgive(subscriber(client.ip))
    user = await read_user(services, str(rows[0]["id"]))
    fresh = await services.passwords.hash(password) if services.passwords.outdated(stored) else None
    return user, await _open(services, user, client, checked=stored, fresh=fresh)


async def register(services: Services, body: Registration, client: Client) -> tuple[UserResponse, str]:
    """A new account that signs itself in. Raises GatewayError 400, 409, 429."""
    _require_native(services)
    if not services.config.auth.native.allow_registration:
        raise bad_request("Registration is disabled", code="registration_disabled")
    email = check_email(body.email)
    count_attempt(services, email.lower(), client.ip)
    services.passwords.check_length(body.password, field="password")
    username = check_text(body.username, "username")
    columns: dict[str, Any] = {
        "username": username,
        "email": email,
        "display_name": optional_text(body.display_name, "display_name") or email.split("@", 1)[0][:255],
        "roles": with_standard(services.config.auth.default_user_roles),
        "auth_source": "native",
        "password_hash": await services.passwords.hash(body.password),
    }
    user_id = ids.new_text()
    actor = Actor(user_id, email, False, frozenset(columns["roles"]), "session", client.ip)
    try:
        await add_user(services, actor, user_id, columns)
    except GatewayError as error:
        if error.message == EMAIL_TAKEN:
            raise bad_request(EMAIL_TAKEN, param="email") from error
        raise
    user = await read_user(services, user_id)
    return user, await _open(services, user, client, checked=columns["password_hash"])


async def _open(services: Services, user: UserResponse, client: Client, *, checked: str, fresh: str | None = None) -> str:
    """The token of a new session; ``checked`` is the stored hash that the password was found right by, ``fresh`` replaces it."""
    actor = Actor(
        user_id=user.id, email=user.email, is_admin=user.is_admin, roles=frozenset(user.roles), via="session", client_ip=client.ip
    )

    async def write(tx: Tx) -> str:
        now = clock.now_us()
        changed = await tx.execute(
            "UPDATE users SET last_login_at = ?, password_hash = ? WHERE id = ? AND password_hash = ?",
            (now, fresh or checked, user.id, checked),
        )
        if not changed:
            # Changed, or the account deleted, since it was checked: whoever knows the old password stays out.
            raise unauthenticated(WRONG)
        token = await open_session(
            tx,
            user.id,
            now_us=now,
            lifetime_seconds=services.config.auth.native.session.timeout,
            client_ip=client.ip,
            user_agent=client.user_agent,
        )
        await audit(tx, actor, "sessions.create", "session", None)
        return token

    return await services.store.write(write)


async def sign_out(services: Services, session_hash: str) -> None:
    """End a session."""

    async def write(tx: Tx) -> None:
        await end_session(tx, session_hash)

    await services.store.write(write)


async def change_password(services: Services, actor: Actor, current: str, new: str) -> None:
    """Set the actor's password; their other sessions end, and so does a link to choose one.
    Raises GatewayError 400 (length, or an account without a password), 401, 429."""
    _require_native(services)
    rows = await services.store.fetch("SELECT password_hash FROM users WHERE id = ? AND deleted_at IS NULL", (actor.user_id,))
    stored = rows[0]["password_hash"] if rows else None
    if stored is None:
        raise bad_request("This account signs in without a password")
    services.passwords.check_length(new, field="new_password")
    count_attempt(services, actor.email.lower(), actor.client_ip or "")
    if not await services.passwords.verify(stored, current):
        raise unauthenticated("Current password is incorrect")
    services.attempts_by_account.forgive(actor.email.lower())
    fresh = await services.passwords.hash(new)

    async def write(tx: Tx) -> None:
        changed = await tx.execute(
            "UPDATE users SET password_hash = ?, must_change_password = ?, updated_at = ?, revision = revision + 1"
            " WHERE id = ? AND password_hash = ?",
            (fresh, False, clock.now_us(), actor.user_id, stored),
        )
        if not changed:
            raise unauthenticated("Current password is incorrect")
        await end_access_of(tx, actor.user_id, keep=actor.session_hash)
        await audit(tx, actor, "users.change_password", "user", actor.user_id)

    await services.store.write(write)


async def reset_password(store: Store, email: str, config: Config | None = None) -> str:
    """Give an account a new password, to be changed at the next sign-in, and end its sessions; the password.
    Raises LookupError if no account has the address, GatewayError 403 if it is the system account's."""
    settings = config or Config()
    password = generate()
    fresh = await Passwords(settings.auth.native.password).hash(password)

    async def write(tx: Tx) -> None:
        rows = await tx.fetch("SELECT id FROM users WHERE live_email = ?", (email.strip().lower(),))
        if not rows:
            raise LookupError(f"no account has the e-mail address {email.strip()}")
        row = await live_user(tx, str(rows[0]["id"]))
        await _replace_password(tx, CLI, str(row.id), fresh)

    await store.write(write)
    return password


async def give_password(services: Services, actor: Actor, user_id: str) -> str:
    """Give somebody else a new password, to be changed at their next sign-in, and end their sessions; the password.
    Raises GatewayError 400 (oneself, or native sign-in is off), 403 (also for an administrator's, to others), 404."""
    policy.require(actor, "Users", "update_all")
    _require_native(services)
    if user_id == actor.user_id:
        raise bad_request("Your own password is changed on your profile")
    password = generate()
    fresh = await services.passwords.hash(password)

    async def write(tx: Tx) -> None:
        row = await live_user(tx, user_id)
        if row.is_admin and not actor.is_admin:
            raise forbidden("Only an administrator can reset an administrator's password", code="insufficient_permissions")
        await _replace_password(tx, actor, user_id, fresh)

    await services.store.write(write)
    return password


async def _replace_password(tx: Tx, actor: Actor, user_id: str, fresh: str) -> None:
    await tx.execute(
        "UPDATE users SET password_hash = ?, must_change_password = ?, updated_at = ?, revision = revision + 1 WHERE id = ?",
        (fresh, True, clock.now_us(), user_id),
    )
    await end_access_of(tx, user_id)
    await audit(tx, actor, "users.reset_password", "user", user_id)


def _require_native(services: Services) -> None:
    if not services.config.auth.native.enabled:
        raise bad_request("Native authentication is disabled", code="native_authentication_disabled")


def count_attempt(services: Services, account: str, client_ip: str) -> None:
    """Count an attempt to get into an account. Raises GatewayError 429."""
    now = clock.monotonic()
    # An address that has to wait counts against no account; and no name is kept that is longer than an address can be.
    wait = services.attempts_by_address.take(subscriber(client_ip), now)
    if wait is None:
        wait = services.attempts_by_account.take(account[:320], now)
    if wait is not None:
        raise GatewayError(
            429, "rate_limit_error", "too_many_requests", "Too many attempts to sign in. Please wait before trying again.", retry_after=wait
        )
