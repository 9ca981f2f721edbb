"""``/keys``: API keys. A secret is in the one answer that made it; a reload, Back, and every later page show that it was shown."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from dwctl import clock
from dwctl.accounts.policy import allows, require
from dwctl.doorway import Needs, Route
from dwctl.operations import api_keys, key_list
from dwctl.operations.calls import Answer, CallableModel, first_model, models_for, try_key
from dwctl.operations.consequences import consequences
from dwctl.operations.key_list import KeyFilter, ListedKey, Sort, State
from dwctl.operations.snippets import Snippet, administration_snippet, snippets
from dwctl.operations.users import read_user
from dwctl.web import several
from dwctl.web.addresses import address, api_base, origin
from dwctl.web.context import Context
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, Nav, PageNumber, View, go, page, view
from dwctl.web.several import SeveralForm

ROUTES: list[Route] = []
PAGE_SIZE = 25
PURPOSES = [
    ("realtime", "Calling models", "For programs and people that use models."),
    ("platform", "Administration", "For scripts that use the administration's API, with the rights of the key's owner."),
]
OVERLAPS: list[tuple[api_keys.Overlap, str, str]] = [
    ("24h", "24 hours", "Enough to deploy the new secret everywhere."),
    ("1h", "1 hour", ""),
    ("7d", "7 days", ""),
    ("now", "None: the old secret ends now", "For a secret that has leaked. Whatever still uses it fails at once."),
]


class ListQuery(msgspec.Struct, kw_only=True):
    """``scope``: mine | all; ``user``: the keys of one user. ``q`` looks into names, hints and addresses."""

    scope: Literal["mine", "all"] = "mine"
    user: str | None = None
    q: str | None = None
    state: State | None = None
    sort: Sort = "-created"
    page: PageNumber = 1


class NewQuery(msgspec.Struct, kw_only=True):
    """``user``: whose key it will be, if not one's own."""

    user: str | None = None


class KeyFields(msgspec.Struct, kw_only=True):
    """What a new key and a changed one have in common. ``expires_on`` is the last day, in UTC."""

    name: str
    description: str | None = None
    requests_per_second: float | None = None
    burst_size: int | None = None
    max_concurrency: int | None = None
    expires_on: str | None = None


class NewKey(KeyFields, kw_only=True):
    purpose: Literal["realtime", "platform"] = "realtime"
    user: str | None = None


class ChangedKey(KeyFields, kw_only=True):
    revision: int


class TestForm(msgspec.Struct, kw_only=True):
    model: str


class RotateForm(msgspec.Struct, kw_only=True):
    overlap: api_keys.Overlap


class DeleteForm(msgspec.Struct, kw_only=True):
    confirm: str | None = None


@page(
    ROUTES,
    "GET",
    "/keys",
    policy=Needs("ApiKeys", "read_own"),
    query=ListQuery,
    summary="API keys",
    nav=Nav("Build", "API keys", "key-round", 30, key="k"),
)
async def list_page(context: Context) -> View:
    """One's own keys, or everybody's."""
    query, actor = context.query, context.actor
    found, total = await _listed(context, skip=(query.page - 1) * PAGE_SIZE, limit=PAGE_SIZE)
    return view(
        "keys/list.html",
        keys=found,
        total=total,
        size=PAGE_SIZE,
        query=query,
        words={name: value for name, value in msgspec.structs.asdict(query).items() if value != _DEFAULTS[name]},
        everybody=allows(actor, "ApiKeys", "read_all"),
        may_delete=allows(actor, "ApiKeys", "delete_all") or (query.scope == "mine" and query.user in (None, actor.user_id)),
        owner=await read_user(context.services, query.user) if query.user else None,
        narrowed=bool(query.q or query.state),
    )


_DEFAULTS = msgspec.structs.asdict(ListQuery())


async def _listed(context: Context, *, skip: int, limit: int, ids: list[str] | None = None) -> tuple[list[ListedKey], int]:
    """Keys that the address asks for, and how many there are."""
    query: ListQuery = context.query
    owner = query.user or (None if query.scope == "all" else context.actor.user_id)
    chosen = KeyFilter(owner_id=owner, search=query.q, state=query.state, sort=query.sort, ids=ids)
    return await key_list.list_keys(context.services, context.actor, chosen, skip=skip, limit=limit)


async def _chosen(context: Context) -> several.Rows:
    found, total = await _listed(context, skip=0, limit=several.MOST, ids=several.chosen_of(context).ids)
    return several.rows(((key.id, key.name) for key in found), total, ("API key", "API keys"))


@page(ROUTES, "GET", "/keys/delete", policy=Needs("ApiKeys", "delete_own"), query=ListQuery, summary="Delete API keys")
async def ask_delete_several(context: Context) -> View:
    """What deleting them would end."""
    chosen = await _chosen(context)
    found = await consequences(context.services, context.actor, "api_key", *chosen.ids) if chosen.ids else None
    query = context.query
    back = address("/keys", {"scope": query.scope, "user": query.user, "q": query.q, "state": query.state})
    return several.asking(
        chosen, "Delete", _ended(found.requests_last_hour, len(chosen.ids)) if found else [], trail=("API keys", back), danger=True
    )


@page(
    ROUTES,
    "POST",
    "/keys/delete",
    policy=Needs("ApiKeys", "delete_own"),
    query=ListQuery,
    form=SeveralForm,
    again=ask_delete_several,
    summary="Delete API keys",
)
async def delete_several(context: Context) -> Go:
    """Delete them all, or none."""
    chosen = await _chosen(context)
    several.check(context.body, chosen, typed=True)
    await api_keys.delete_keys(context.services, context.actor, chosen.ids)
    back = address("/keys", {"scope": context.query.scope, "user": context.query.user})
    return go(back, f"{chosen.said} deleted. What still used them is refused from now on.")


@page(ROUTES, "GET", "/keys/new", policy=Needs("ApiKeys", "create_own"), query=NewQuery, summary="Create API key")
async def new_page(context: Context) -> View:
    """The form."""
    owner_id = (context.query or NewQuery(user=context.form.value("user") or None)).user
    owner = None
    if owner_id and owner_id != context.actor.user_id:
        require(context.actor, "ApiKeys", "create_all")
        owner = await read_user(context.services, owner_id)
    return view("keys/new.html", purposes=PURPOSES, owner=owner)


@page(ROUTES, "POST", "/keys/new", policy=Needs("ApiKeys", "create_own"), form=NewKey, again=new_page, summary="Create API key")
async def create(context: Context) -> View:
    """Make the key, and show its secret this once."""
    form: NewKey = context.body
    body = api_keys.ApiKeyCreate(
        name=form.name,
        description=form.description,
        purpose=form.purpose,
        requests_per_second=form.requests_per_second,
        burst_size=form.burst_size,
        max_concurrency=form.max_concurrency,
        expires_at=_end_of(form.expires_on),
    )
    made = await api_keys.create_key(context.services, context.actor, form.user or context.actor.user_id, body)
    key = await key_list.read_key(context.services, context.actor, made.id)
    return await _with_secret(context, key, made.key, rotated=None)


@page(ROUTES, "GET", "/keys/<key_id>", policy=Needs("ApiKeys", "read_own"), summary="API key")
async def key_page(context: Context) -> View:
    """One key: what it is, its limits, how to use it."""
    return await _key_page(context)


async def _key_page(context: Context, answer: Answer | None = None) -> View:
    key = await _key(context)
    models = await _models(context, key)
    deletion = await key_list.deletion_of(context.services, context.actor, key)
    return view(
        "keys/key.html",
        key=key,
        ends_on=_last_day(key.expires_us),
        **_usage(context, key, models, None),
        deletion=deletion,
        consequences=_sentences(deletion),
        answer=answer,
    )


@page(
    ROUTES,
    "POST",
    "/keys/<key_id>",
    policy=Needs("ApiKeys", "update_own"),
    form=ChangedKey,
    again=key_page,
    summary="Change an API key",
)
async def change(context: Context) -> Go:
    """Change its name, limits or end."""
    form: ChangedKey = context.body
    key = await _key(context)
    body = api_keys.ApiKeyUpdate(
        name=form.name,
        description=form.description or "",
        requests_per_second=form.requests_per_second,
        burst_size=form.burst_size,
        max_concurrency=form.max_concurrency,
        expires_at=_changed_end(key, form.expires_on),
    )
    await api_keys.update_key(context.services, context.actor, key.owner_id, key.id, body, revision=form.revision)
    return go(f"/keys/{key.id}", "The key is saved.")


@page(
    ROUTES,
    "POST",
    "/keys/<key_id>/test",
    policy=Needs("ApiKeys", "update_own"),
    form=TestForm,
    again=key_page,
    summary="Send a test request with an API key",
)
async def test(context: Context) -> View:
    """Call a model with the key, and show what came back."""
    key = await _key(context)
    model = next((model for model in await _models(context, key) if model.alias == context.body.model), None)
    if model is None:
        raise wrong("model", "This key may not call this model. Choose one of the list.")
    return await _key_page(context, answer=await try_key(context.services, context.actor, context.peer.ip, key, model))


@page(ROUTES, "GET", "/keys/<key_id>/rotate", policy=Needs("ApiKeys", "update_own"), summary="Rotate an API key")
async def rotate_page(context: Context) -> View:
    """How long the old secret is to go on."""
    key = await _key(context)
    deletion = await key_list.deletion_of(context.services, context.actor, key)
    return view("keys/rotate.html", key=key, overlaps=OVERLAPS, requests=deletion.consequences.requests_last_hour)


@page(
    ROUTES,
    "POST",
    "/keys/<key_id>/rotate",
    policy=Needs("ApiKeys", "update_own"),
    form=RotateForm,
    again=rotate_page,
    summary="Rotate an API key",
)
async def rotate(context: Context) -> View:
    """Make the new secret, and show it this once."""
    key = await _key(context)
    rotated = await api_keys.rotate_key(context.services, context.actor, key.owner_id, key.id, overlap=context.body.overlap)
    return await _with_secret(context, await _key(context), rotated.key, rotated=rotated)


@page(ROUTES, "GET", "/keys/<key_id>/delete", policy=Needs("ApiKeys", "delete_own"), summary="Delete an API key")
async def delete_page(context: Context) -> View:
    """What deleting it would end."""
    key = await _key(context)
    deletion = await key_list.deletion_of(context.services, context.actor, key)
    return view("keys/delete.html", key=key, deletion=deletion, consequences=_sentences(deletion))


@page(
    ROUTES,
    "POST",
    "/keys/<key_id>/delete",
    policy=Needs("ApiKeys", "delete_own"),
    form=DeleteForm,
    again=delete_page,
    summary="Delete an API key",
)
async def delete(context: Context) -> Go:
    """Delete it; it ends at once."""
    key = await _key(context)
    deletion = await key_list.deletion_of(context.services, context.actor, key)
    if deletion.used_lately and (context.body.confirm or "").strip() != key.name:
        raise wrong("confirm", f"This key was used within the last week. Type its name to delete it: {key.name}")
    await api_keys.delete_key(context.services, context.actor, key.owner_id, key.id)
    return go("/keys", f"The key {key.name} is deleted. What still used it is refused from now on.")


async def _key(context: Context) -> ListedKey:
    return await key_list.read_key(context.services, context.actor, context.parameters["key_id"])


async def _models(context: Context, key: ListedKey) -> list[CallableModel]:
    """The models that the key may call; none for a key that calls none."""
    if key.purpose == "platform" or key.state == "expired":
        return []
    return await models_for(context.services, context.services.keyring.principal_of_key(key.id))


def _sentences(deletion: key_list.Deletion) -> list[str]:
    """What deleting a key ends."""
    return _ended(deletion.consequences.requests_last_hour, 1)


def _ended(requests: int, keys: int) -> list[str]:
    it, its = ("it", "Its") if keys == 1 else ("them", "Their")
    used = {0: "No request", 1: "1 request"}.get(requests, f"{requests:,} requests")
    return [
        f"{used} used {it} within the last hour.",
        f"Whatever still uses {it} is refused from now on. This cannot be undone.",
        f"{its} requests and what they cost stay in the log.",
    ]


def _usage(context: Context, key: ListedKey, models: list[CallableModel], secret: str | None) -> dict[str, Any]:
    """What the pages say about how a key is used. First a model to talk to is tried, if there is one."""
    model = first_model(models)
    examples: list[Snippet] = []
    if key.purpose == "platform":
        examples = [administration_snippet(origin(context), secret=secret)]
    elif model is not None:
        examples = snippets(api_base(context), model.alias, model.kind, secret=secret)
    return {
        "examples": examples,
        "choices": [(each.alias, each.alias) for each in models],
        "first": model.alias if model else None,
        "unpaid": model is not None and model.unpaid,
    }


async def _with_secret(context: Context, key: ListedKey, secret: str, *, rotated: api_keys.RotatedKey | None) -> View:
    models = await _models(context, key)
    return view(
        "keys/secret.html",
        once=True,
        key=key,
        secret=secret,
        rotated=rotated,
        answer=None,
        **_usage(context, key, models, secret),
    )


def _end_of(day: str | None) -> str | None:
    """RFC 3339 of the moment at which a day (UTC) is over. Raises FormError."""
    if day is None:
        return None
    try:
        after = datetime.strptime(day.strip(), "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise wrong("expires_on", "Write a day as year-month-day, such as 2030-12-31.") from None
    if clock.from_rfc3339(text := after.isoformat()) <= clock.now_us():
        raise wrong("expires_on", "This day is over. Choose today or a later day, or none.")
    return text


def _last_day(expires_us: int | None) -> str | None:
    """The day (UTC) during which a key ends."""
    if expires_us is None:
        return None
    return datetime.fromtimestamp((expires_us - 1) // clock.MICROSECONDS, UTC).strftime("%Y-%m-%d")


def _changed_end(key: ListedKey, day: str | None) -> str | UnsetType | None:
    """The end to store: as it is while the day is the one that was shown, which may be in the middle of a day, or over."""
    return UNSET if day == _last_day(key.expires_us) else _end_of(day)
