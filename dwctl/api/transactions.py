"""REST of credits: ``/admin/api/v1/transactions``."""

from dwctl.api.context import Context
from dwctl.doorway import Authenticated, Needs, PageQuery, Route, route
from dwctl.operations import transactions
from dwctl.operations.transactions import TransactionCreate, TransactionList, TransactionView

ROUTES: list[Route] = []
BASE = "/admin/api/v1/transactions"
TAG = "credits"


class TransactionQuery(PageQuery, kw_only=True):
    """``transaction_types`` is a list separated by commas; times are RFC 3339. ``group_batches`` groups nothing, since there are
    no batches."""

    user_id: str | None = None
    all: bool = False
    group_batches: bool = False
    search: str | None = None
    transaction_types: str | None = None
    start_date: str | None = None
    end_date: str | None = None


@route(
    ROUTES,
    "POST",
    BASE,
    policy=Needs("Credits", "create_all"),
    body=TransactionCreate,
    returns=TransactionView,
    status=201,
    summary="Give or take credits",
    tag=TAG,
)
async def create_transaction(context: Context) -> TransactionView:
    """The balance that requests are admitted by has changed when this answers. A ``source_id`` that was used is a 409."""
    return await transactions.create_transaction(context.services, context.actor, context.body)


@route(ROUTES, "GET", BASE, policy=Authenticated(), query=TransactionQuery, returns=TransactionList, summary="List transactions", tag=TAG)
async def list_transactions(context: Context) -> TransactionList:
    """One's own transactions, newest first; another account's or everyone's with the right to read all credits."""
    query: TransactionQuery = context.query
    page = context.page()
    return await transactions.list_transactions(
        context.services,
        context.actor,
        user_id=query.user_id,
        everyone=query.all,
        search=query.search,
        kinds=[part.strip() for part in (query.transaction_types or "").split(",") if part.strip()],
        start=query.start_date,
        end=query.end_date,
        skip=page.skip,
        limit=page.limit,
    )


@route(ROUTES, "GET", f"{BASE}/<transaction_id>", policy=Authenticated(), returns=TransactionView, summary="Get a transaction", tag=TAG)
async def get_transaction(context: Context) -> TransactionView:
    """One transaction; 404 also when it is somebody else's and the caller may not read all credits."""
    return await transactions.get_transaction(context.services, context.actor, context.uuid("transaction_id"))
