"""``/billing``: a balance, what changed it, and credits given or taken by whoever manages them."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from sanic.response import ResponseStream

from dwctl import clock, ids, money
from dwctl.accounts import policy
from dwctl.doorway import Authenticated, Needs, Route
from dwctl.errors import GatewayError, not_found
from dwctl.ledger.transactions import Filter
from dwctl.operations import transactions, usage, users
from dwctl.operations.csv_text import Exact
from dwctl.operations.requests import account_named, emails_of
from dwctl.operations.transactions import TransactionCreate, TransactionView
from dwctl.web.addresses import address
from dwctl.web.context import Context
from dwctl.web.days import days
from dwctl.web.exports import csv_download
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, Nav, View, go, page, view

ROUTES: list[Route] = []
SIZE = 50
EVERYBODY = "all"
_RUNWAY_DAYS = 30

KIND_WORDS = {"purchase": "Purchase", "admin_grant": "Grant", "admin_removal": "Removal", "usage": "Usage"}


class BillingQuery(msgspec.Struct, kw_only=True):
    """``account`` is an e-mail address, an id or ``all``, one's own if it is left out. ``from`` and ``to`` are days in UTC, both
    included."""

    account: str | None = None
    kind: Literal["purchase", "admin_grant", "admin_removal", "usage"] | None = None
    q: str | None = None
    start: str | None = msgspec.field(default=None, name="from")
    end: str | None = msgspec.field(default=None, name="to")
    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    """How many transactions are left out before the first one shown."""


class BookForm(msgspec.Struct, kw_only=True):
    """``source`` comes with the form, so that sending it twice books once."""

    account: str
    user: str
    source: str
    kind: Literal["admin_grant", "admin_removal"]
    amount: Decimal
    reason: str


class Line(msgspec.Struct, frozen=True):
    """A transaction, what it did to the balance, and the balance after it, if that is known (nano-credits)."""

    shown: TransactionView
    change_nano: int
    balance_nano: int | None


class Account(msgspec.Struct, frozen=True):
    """Whose transactions are shown; without an id everybody's."""

    id: str | None
    email: str
    deleted: bool = False


@page(
    ROUTES,
    "GET",
    "/billing",
    policy=Authenticated(),
    query=BillingQuery,
    summary="Billing",
    nav=Nav("Account", "Billing", "wallet", 80, key="b"),
)
async def show(context: Context) -> View:
    """The balance, and the transactions that led to it."""
    services, actor = context.services, context.actor
    query = context.query or BillingQuery(account=context.form.value("account") or None)
    account = await _account(context, query)
    start, end = days(query.start, query.end)
    found = await transactions.list_transactions(
        services,
        actor,
        user_id=account.id,
        everyone=account.id is None,
        search=query.q,
        kinds=[query.kind] if query.kind else [],
        start=start,
        end=end,
        skip=query.after,
        limit=SIZE,
    )
    whole = _wanted(account, query).is_whole
    lines, balance = [], money.parse_amount(found.page_start_balance)
    for shown in found.data:
        amount = money.parse_amount(shown.amount)
        change = amount if shown.transaction_type in ("purchase", "admin_grant") else -amount
        lines.append(Line(shown, change, balance if whole else None))
        balance -= change
    manager = policy.allows(actor, "Credits", "read_all")
    suggested = (
        await users.list_users(services, actor, skip=0, limit=200) if manager and policy.allows(actor, "Users", "read_all") else ([], 0)
    )
    values = {"account": query.account, "kind": query.kind, "q": query.q, "from": query.start, "to": query.end}
    return view(
        "billing/page.html",
        account=account,
        own=account.id == actor.user_id,
        figures=await _figures(context, account.id) if account.id else None,
        lines=lines,
        whole=whole,
        emails=await emails_of(services, [line.shown.user_id for line in lines]) if account.id is None else {},
        kinds=list(KIND_WORDS.items()),
        words=KIND_WORDS,
        query={name: value or "" for name, value in values.items()} | {"after": str(query.after) if query.after else ""},
        following=str(query.after + SIZE) if found.has_more else None,
        download=address("/billing.csv", values),
        source=f"page-{ids.new_text()}",
        suggested=[user.email for user in suggested[0]],
        currency=services.config.billing.currency,
    )


@page(ROUTES, "GET", "/billing.csv", policy=Authenticated(), query=BillingQuery, summary="Transactions as CSV")
async def download(context: Context) -> ResponseStream:
    """What the page lists, all of it."""
    query: BillingQuery = context.query
    account = await _account(context, query)
    found = transactions.export(context.services, context.actor, _wanted(account, query))

    async def rows() -> Any:
        emails: dict[str, str] = {}
        async for posting, balance in found:
            if posting.account_id not in emails:
                emails |= await emails_of(context.services, [posting.account_id])
            yield (
                clock.to_rfc3339(posting.created_at),
                emails.get(posting.account_id, posting.account_id),
                posting.transaction_type,
                Exact(money.format_amount(posting.signed_nano)),
                None if balance is None else Exact(money.format_amount(balance)),
                posting.description,
                posting.source_id,
                posting.request_id,
            )

    head = ("time", "account", "type", "amount", "balance", "reason", "source_id", "request_id")
    return csv_download(f"transactions-{account.email}", head, rows())


@page(ROUTES, "POST", "/billing", policy=Needs("Credits", "create_all"), form=BookForm, again=show, summary="Give or take credits")
async def book(context: Context) -> Go:
    """Book it; the same form sent twice books once."""
    form: BookForm = context.body
    if len(form.reason) > 255:
        raise wrong("reason", "Write at most 255 characters.")
    body = TransactionCreate(
        user_id=form.user, transaction_type=form.kind, amount=form.amount, source_id=form.source, description=form.reason.strip()
    )
    target = address("/billing", {"account": form.account})
    try:
        booked = await transactions.create_transaction(context.services, context.actor, body)
    except GatewayError as error:
        if error.status == 409:
            return go(target, "This form was sent before, and booked then: nothing was booked a second time.")
        if error.param == "amount":
            raise wrong("amount", f"{error.message.removeprefix('amount: ').rstrip('.')}.") from None
        raise
    verb = "given to" if form.kind == "admin_grant" else "taken from"
    return go(target, f"{booked.amount} {context.services.config.billing.currency} {verb} {form.account}.")


async def _account(context: Context, query: BillingQuery) -> Account:
    """Raises GatewayError 403 for somebody else's account, 404."""
    actor = context.actor
    if query.account in (None, actor.email, actor.user_id):
        return Account(actor.user_id, actor.email)
    if query.account == EVERYBODY:
        return Account(None, "everybody")
    policy.require(actor, "Credits", "read_all")
    found = await account_named(context.services, query.account)
    if found is None:
        raise not_found(f"No account has the e-mail address or id {query.account}")
    return Account(str(found["id"]), found["email"], found["deleted_at"] is not None)


def _wanted(account: Account, query: BillingQuery) -> Filter:
    """Raises GatewayError 400 for a day that is none."""
    start, end = days(query.start, query.end)
    return Filter(
        account_id=account.id,
        kinds=(query.kind,) if query.kind else (),
        search=query.q,
        start_us=transactions.instant(start, "from"),
        end_us=transactions.instant(end, "to"),
    )


async def _figures(context: Context, account_id: str) -> dict[str, Any]:
    """The account's balance, what running requests hold of it, what it spent lately, and for how many days that would go on."""
    balances = context.services.ledger.balances
    figures: dict[str, Any] = {"balance": balances.balance(account_id), "held": balances.held(account_id), "spent": None, "days": None}
    if account_id == context.actor.user_id or policy.allows(context.actor, "Analytics", "read_all"):
        start = clock.now_us() - _RUNWAY_DAYS * 24 * clock.HOUR
        used = await usage.usage(context.services, context.actor, user_id=account_id, start_us=start, end_us=None)
        figures["spent"] = spent = money.parse_amount(used.total_cost)
        if spent > 0 and figures["balance"] > 0:
            figures["days"] = figures["balance"] * _RUNWAY_DAYS // spent
    return figures
