"""Credits given and taken, and the list of what happened to an account's money."""

import uuid
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from dwctl import clock, money
from dwctl.accounts import NIL, Actor, policy
from dwctl.errors import bad_request, not_found
from dwctl.ledger import transactions
from dwctl.operations.audit import audit
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services
from dwctl.store import Changes, Tx
from dwctl.store.tables import User


class TransactionCreate(msgspec.Struct, kw_only=True):
    """Body of POST /transactions. ``amount`` is in credits, as text or number; the same ``source_id`` happens once."""

    user_id: str
    transaction_type: Literal["admin_grant", "admin_removal"]
    amount: Decimal
    source_id: str | None = None
    """None: made up, so that the call is not protected against being repeated."""
    description: str | None = None


class TransactionView(msgspec.Struct, kw_only=True):
    """A transaction. ``amount`` is absolute, in credits as text: purchase and admin_grant add, usage and admin_removal take."""

    id: str
    user_id: str
    transaction_type: str
    batch_id: str | None = None
    amount: str
    source_id: str
    description: str | None
    created_at: str
    service_tier: str | None
    request_id: str | None


class TransactionList(msgspec.Struct, kw_only=True):
    """Newest first. ``page_start_balance`` is the account's balance after the first of them, in credits as text; where a filter leaves some
    out, days included, it cannot be followed from one to the next."""

    data: list[TransactionView]
    has_more: bool
    page_start_balance: str


async def create_transaction(services: Services, actor: Actor, body: TransactionCreate) -> TransactionView:
    """Give or take credits. Raises GatewayError 400, 403, 409 (the source id was used)."""
    policy.require(actor, "Credits", "create_all")
    amount = _amount(str(body.amount))
    account = canonical(body.user_id)
    source_id = body.source_id if body.source_id is not None else f"{actor.user_id}_{uuid.uuid4()}"
    post = transactions.grant if body.transaction_type == "admin_grant" else transactions.remove

    async def write(tx: Tx) -> tuple[transactions.Posting, int]:
        known = account not in (None, NIL) and await User.filter(id=account, deleted_at=None).using_db(tx.orm).exists()
        if account is None or not known:
            raise bad_request(f"User with ID {body.user_id} not found", param="user_id")
        posting = await post(tx, account, amount, source_id, body.description)
        await audit(
            tx,
            actor,
            "transactions.create",
            "transaction",
            posting.id,
            None,
            {
                "user_id": account,
                "transaction_type": posting.transaction_type,
                "amount": money.format_amount(amount),
                "source_id": source_id,
                "description": body.description,
            },
        )
        return posting, await Changes.note(tx, "balance", account)

    posting, seq = await services.store.write(write)
    await services.changes.applied(seq)
    return view(posting)


def _amount(text: str) -> int:
    try:
        amount = money.parse_amount(text)
    except ValueError as error:
        raise bad_request(f"amount: {error}", param="amount") from error
    if amount <= 0:
        raise bad_request("amount must be greater than zero", param="amount")
    return amount


async def get_transaction(services: Services, actor: Actor, transaction_id: str) -> TransactionView:
    """One transaction. Raises GatewayError 404, also when it is somebody else's."""
    known = canonical(transaction_id)
    posting = None if known is None else await transactions.get(services.store, known)
    if posting is None or not policy.allows_for(actor, "Credits", "read_all", posting.account_id):
        raise not_found(f"Transaction with ID {transaction_id} not found")
    return view(posting)


async def list_transactions(
    services: Services,
    actor: Actor,
    *,
    user_id: str | None,
    everyone: bool,
    search: str | None,
    kinds: Sequence[str],
    start: str | None,
    end: str | None,
    skip: int,
    limit: int,
) -> TransactionList:
    """Transactions of one account (the actor's own, unless said), or of everyone. Times are RFC 3339, ``end`` exclusive.
    Raises GatewayError 400, 403."""
    if everyone:
        policy.require(actor, "Credits", "read_all")
        account = None
    else:
        account = actor.user_id if user_id is None else canonical(user_id)
        if account is None:
            raise bad_request("user_id is not a UUID", param="user_id")
        policy.require_for(actor, "Credits", "read_all", account)
    unknown = set(kinds) - set(transactions.KINDS)
    if unknown:
        raise bad_request(f"transaction_types: unknown {sorted(unknown)[0]!r}", param="transaction_types")
    found = await transactions.page(
        services.store,
        transactions.Filter(
            account_id=account,
            kinds=tuple(kinds),
            search=search,
            start_us=instant(start, "start_date"),
            end_us=instant(end, "end_date"),
        ),
        skip=skip,
        limit=limit,
    )
    return TransactionList(
        data=[view(posting) for posting in found.data],
        has_more=found.has_more,
        page_start_balance=money.format_amount(found.page_start_balance),
    )


def export(services: Services, actor: Actor, wanted: transactions.Filter) -> AsyncIterator[tuple[transactions.Posting, int | None]]:
    """Every transaction, newest first, each with the account's balance after it, where none of one account's is left out.
    Raises GatewayError 403."""
    if wanted.account_id is None:
        policy.require(actor, "Credits", "read_all")
    else:
        policy.require_for(actor, "Credits", "read_all", wanted.account_id)
    return _exported(services, wanted)


async def _exported(services: Services, wanted: transactions.Filter) -> AsyncIterator[tuple[transactions.Posting, int | None]]:
    whole, balance = wanted.is_whole, None
    while True:
        found = await transactions.page(services.store, wanted, limit=EXPORTED_AT_ONCE)
        if balance is None:
            balance = found.page_start_balance
        for posting in found.data:
            yield posting, balance if whole else None
            balance -= posting.signed_nano
        if not found.has_more:
            return
        # By place and not by number: what is booked meanwhile moves no row.
        wanted = msgspec.structs.replace(wanted, before_seq=found.data[-1].seq)


EXPORTED_AT_ONCE = 2000
LATEST_US = 253_370_764_800 * clock.MICROSECONDS
"""The beginning of the year 9999: from there on a time that is rounded up could not be written."""


def instant(text: str | None, field: str) -> int | None:
    """Microseconds of an RFC 3339 time, None for none; what lies before 1970 is 1970, where nothing had happened yet.
    Raises GatewayError 400."""
    if text is None:
        return None
    try:
        return min(max(clock.from_rfc3339(text), 0), LATEST_US)
    except ValueError as error:
        raise bad_request(f"{field} must be a time such as 2026-11-30T00:00:00Z", param=field) from error


def view(posting: transactions.Posting) -> TransactionView:
    """The transaction as REST shows it."""
    return TransactionView(
        id=posting.id,
        user_id=posting.account_id,
        transaction_type=posting.transaction_type,
        amount=money.format_amount(posting.amount_nano),
        source_id=posting.source_id,
        description=posting.description,
        created_at=clock.to_rfc3339(posting.created_at),
        service_tier=posting.service_tier,
        request_id=posting.request_id,
    )
