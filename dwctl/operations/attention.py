"""What needs somebody's attention now: the server's own state, balances that run out, keys that expire, endpoints without a credential.

Whoever may read everybody's is told of everybody's, everyone else of their own.
"""

from typing import Literal

import msgspec

from dwctl import clock
from dwctl.accounts import NIL, Actor, policy
from dwctl.operations.account_views import in_chunks
from dwctl.operations.endpoint_rows import credentials_of
from dwctl.operations.services import Services
from dwctl.sealing import SealingError
from dwctl.store.tables import Endpoint

DAY_HOURS = 24
LOW_BALANCE_DAYS = 7
EXPIRING_DAYS = 7
MOST = 10
"""Of each kind."""


class Concern(msgspec.Struct, frozen=True, kw_only=True):
    """``subject`` is a name to show. degraded: the reason of ``/readyz``. balance: ``amount_nano`` is left, and at the rate of the last
    days is gone within ``LOW_BALANCE_DAYS``. key: ends at ``at_us``. unreadable: the endpoint's credential cannot be unsealed. refused: its
    provider refused the credential at the last request."""

    kind: Literal["degraded", "unreadable", "refused", "balance", "key"]
    id: str
    subject: str
    amount_nano: int = 0
    at_us: int = 0


async def concerns(services: Services, actor: Actor) -> list[Concern]:
    """The most pressing kinds first."""
    found = [Concern(kind="degraded", id=reason, subject=reason) for reason in services.degraded()]
    if policy.allows(actor, "Endpoints", "read_all"):
        found += await _endpoints(services)
    return found + await _balances(services, actor) + await _keys(services, actor)


async def _endpoints(services: Services) -> list[Concern]:
    found: list[Concern] = []
    for row in await Endpoint.filter(deleted_at=None).order_by("name"):
        try:
            credentials_of(row, services.sealer)
        except SealingError:
            found.append(Concern(kind="unreadable", id=str(row.id), subject=row.name))
            continue
        newest = await services.store.fetch(
            "SELECT error_code FROM requests WHERE endpoint_name = ? ORDER BY seq DESC LIMIT 1", (row.name,)
        )
        if newest and newest[0]["error_code"] == "provider_refused_gateway":
            found.append(Concern(kind="refused", id=str(row.id), subject=row.name))
    return found[:MOST]


async def _balances(services: Services, actor: Actor) -> list[Concern]:
    """Accounts that are charged, and have less than what they spent in the last days."""
    since = clock.now_us() // clock.HOUR - LOW_BALANCE_DAYS * DAY_HOURS
    own, args = ("", []) if policy.allows(actor, "Credits", "read_all") else (" AND account_id = ?", [actor.user_id])
    rows = await services.store.fetch_report(
        f"SELECT account_id, SUM(charge_nano) AS spent FROM usage_hourly WHERE hour >= ?{own} GROUP BY account_id"
        " HAVING SUM(charge_nano) > 0",
        [since, *args],
    )
    left = {str(row["account_id"]): services.ledger.balances.balance(str(row["account_id"])) for row in rows}
    low = sorted((account for row in rows if left[account := str(row["account_id"])] < int(row["spent"])), key=left.__getitem__)[:MOST]
    emails = await in_chunks(services.store, "SELECT id, email FROM users WHERE deleted_at IS NULL AND id IN ({places})", low)
    names = {str(row["id"]): row["email"] for row in emails}
    return [Concern(kind="balance", id=account, subject=names[account], amount_nano=left[account]) for account in low if account in names]


async def _keys(services: Services, actor: Actor) -> list[Concern]:
    now = clock.now_us()
    own, args = ("", []) if policy.allows(actor, "ApiKeys", "read_all") else (" AND user_id = ?", [actor.user_id])
    rows = await services.store.fetch(
        "SELECT id, name, expires_at FROM api_keys WHERE deleted_at IS NULL AND NOT hidden AND user_id <> ? AND expires_at > ?"
        f" AND expires_at < ?{own} ORDER BY expires_at LIMIT ?",
        (NIL, now, now + EXPIRING_DAYS * DAY_HOURS * clock.HOUR, *args, MOST),
    )
    return [Concern(kind="key", id=str(row["id"]), subject=row["name"], at_us=int(row["expires_at"])) for row in rows]
