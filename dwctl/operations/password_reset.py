"""A forgotten password: a link by mail, good for one new password within an hour.

Whoever asks learns nothing about who has an account: the answer is the same, and does not wait for what is done about it.
"""

import asyncio
import secrets

from dwctl import clock
from dwctl.accounts import Actor
from dwctl.accounts.sessions import end_access_of, hash_token
from dwctl.clock import MICROSECONDS
from dwctl.errors import GatewayError, bad_request
from dwctl.operations.audit import audit
from dwctl.operations.services import Services
from dwctl.operations.sign_in import count_attempt
from dwctl.outbound import MailError
from dwctl.store import StoreUnavailable, Tx
from dwctl.telemetry.alarms import alarm

EXPIRED = "This link has been used, or is too old. Ask for a new one."


def available(services: Services) -> bool:
    """Whether people can have a link sent to them."""
    return services.mail.available and services.config.auth.native.enabled


async def ask(services: Services, email: str, client_ip: str) -> None:
    """Send a link to the account of this address, if there is one. Raises GatewayError 400 (no mail here), 429."""
    if not available(services):
        raise bad_request("This server sends no mail. Ask an administrator for a new password.", code="mail_not_configured")
    address = email.strip().lower()
    count_attempt(services, address, client_ip)
    task = asyncio.get_running_loop().create_task(_send(services, address, client_ip))
    services.tasks.add(task)
    task.add_done_callback(services.tasks.discard)


async def _send(services: Services, address: str, client_ip: str) -> None:
    config = services.config
    lifetime = config.auth.native.password_reset_token_duration
    token = secrets.token_urlsafe(32)

    async def write(tx: Tx) -> str | None:
        now = clock.now_us()
        await tx.execute("DELETE FROM password_resets WHERE expires_at <= ?", (now,))
        rows = await tx.fetch("SELECT id, email FROM users WHERE live_email = ? AND password_hash IS NOT NULL", (address,))
        if not rows:
            return None
        user_id = str(rows[0]["id"])
        # The newest link is the only one.
        await tx.execute("DELETE FROM password_resets WHERE user_id = ?", (user_id,))
        await tx.execute(
            "INSERT INTO password_resets (token_hash, user_id, created_at, expires_at) VALUES (?, ?, ?, ?)",
            (hash_token(token), user_id, now, now + int(lifetime * MICROSECONDS)),
        )
        actor = _owner(user_id, str(rows[0]["email"]), client_ip)
        await audit(tx, actor, "users.ask_password_reset", "user", user_id)
        return str(rows[0]["email"])

    try:
        to = await services.store.write(write)
        if to is not None:
            title = config.metadata.title or "dwctl"
            link = f"{(config.dashboard_url or '').rstrip('/')}/reset?link={token}"
            text = (
                f"Somebody, probably you, asked for a new password for {title}.\n\nChoose one here:\n\n{link}\n\n"
                f"The link works once, for {max(1, round(lifetime / 60))} minutes. If it was not you, nothing needs to be done.\n"
            )
            await services.mail.send(to, f"{title}: choose a new password", text)
    except (StoreUnavailable, MailError) as error:
        alarm("mail", "password_reset_not_sent", reason=str(error))


async def usable(services: Services, token: str) -> bool:
    """Whether a link still works."""
    rows = await services.store.fetch(
        "SELECT 1 AS found FROM password_resets WHERE token_hash = ? AND expires_at > ?", (hash_token(token), clock.now_us())
    )
    return bool(rows)


async def reset(services: Services, token: str, password: str, client_ip: str) -> None:
    """Set the password of the link's account, and end its sessions. Raises GatewayError 400 (length, or the link is of no use), 429."""
    services.passwords.check_length(password, field="new_password")
    count_attempt(services, f"reset {client_ip}", client_ip)
    if not await usable(services, token):
        raise _expired()
    fresh = await services.passwords.hash(password)

    async def write(tx: Tx) -> None:
        now = clock.now_us()
        rows = await tx.fetch(
            "SELECT u.id, u.email FROM password_resets r JOIN users u ON u.id = r.user_id"
            " WHERE r.token_hash = ? AND r.expires_at > ? AND u.deleted_at IS NULL",
            (hash_token(token), now),
        )
        if not rows or not await tx.execute("DELETE FROM password_resets WHERE token_hash = ?", (hash_token(token),)):
            raise _expired()
        user_id = str(rows[0]["id"])
        await tx.execute(
            "UPDATE users SET password_hash = ?, must_change_password = ?, updated_at = ?, revision = revision + 1 WHERE id = ?",
            (fresh, False, now, user_id),
        )
        await end_access_of(tx, user_id)
        await audit(tx, _owner(user_id, str(rows[0]["email"]), client_ip), "users.reset_password", "user", user_id)

    await services.store.write(write)


def _expired() -> GatewayError:
    return bad_request(EXPIRED, code="reset_link_expired")


def _owner(user_id: str, email: str, client_ip: str) -> Actor:
    return Actor(user_id=user_id, email=email, is_admin=False, roles=frozenset(), via="session", client_ip=client_ip)
