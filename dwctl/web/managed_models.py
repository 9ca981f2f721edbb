"""``/admin/models``: models in the hands of those who manage them, in sections that are saved one at a time."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from dwctl import clock, money, tokens
from dwctl.catalog import ModelType, Purpose
from dwctl.config import BodyMode
from dwctl.doorway import Needs, Route
from dwctl.operations import catalog_views, explorer, model_management, models
from dwctl.operations.access import set_grants
from dwctl.operations.bounds import MAX_INT, check_text
from dwctl.operations.catalog_views import ModelView
from dwctl.operations.consequences import Sharing, consequences, sharing
from dwctl.operations.model_management import Lacking
from dwctl.web import several
from dwctl.web.addresses import address
from dwctl.web.context import Context
from dwctl.web.deletion import DeleteForm, check_confirmed, sentences
from dwctl.web.endpoint_forms import PriceFields, per_million, split_words
from dwctl.web.forms import FormError, wrong
from dwctl.web.groups import group_choices
from dwctl.web.models import PURPOSES
from dwctl.web.pages import Go, Nav, PageNumber, View, go, page, view
from dwctl.web.several import SeveralForm
from dwctl.web.undo import undoable

ROUTES: list[Route] = []
BASE = "/admin/models"
PAGE_SIZE = 50
_DAYS = 30
_MANAGE = Needs("Models", "update_all")


class ListQuery(msgspec.Struct, kw_only=True):
    q: str | None = None
    lacking: Lacking | None = None
    page: PageNumber = 1


class IdentityForm(msgspec.Struct, kw_only=True):
    alias: str
    model_name: str
    display_name: str | None = None
    description: str | None = None
    model_type: ModelType
    capabilities: str | None = None
    provider: str | None = None
    context_window: int | None = None
    revision: int


class LimitsForm(msgspec.Struct, kw_only=True):
    requests_per_second: float | None = None
    burst_size: int | None = None
    capacity: int | None = None
    max_output_tokens: int | None = None
    tokenizer: str | None = None
    bodies: BodyMode | None = None
    always_stream_usage: bool = False
    revision: int


class AccessForm(msgspec.Struct, kw_only=True):
    group: list[str] = msgspec.field(default_factory=list)
    seen: str = ""
    """Ids of the groups that could call it when the form was made."""


class PriceForm(PriceFields, kw_only=True):
    purpose: Purpose
    revision: int


class EndForm(msgspec.Struct, kw_only=True):
    purpose: Purpose
    revision: int


class PriceQuery(msgspec.Struct, kw_only=True):
    purpose: Purpose = "realtime"


async def _model(context: Context, *include: str) -> ModelView:
    return await catalog_views.get_model(context.services, context.actor, context.uuid("model_id"), include=include)


async def _section(context: Context, name: str, model: ModelView, **values: Any) -> View:
    """A section's page; after a conflict with who came first, and what they changed."""
    conflict = context.form is not None and context.form.conflict
    change = await model_management.last_change(context.services, context.actor, model.id) if conflict else None
    return view(f"managed_models/{name}.html", model=model, change=change, **values)


def _saved(model_id: str, section: str, text: str) -> Go:
    return go(f"{BASE}/{model_id}/{section}", text)


@page(ROUTES, "GET", BASE, policy=_MANAGE, query=ListQuery, summary="Manage models", nav=Nav("Configure", "Manage models", "layers", 20))
async def show_models(context: Context) -> View:
    """All models, and what is missing of which."""
    query: ListQuery = context.query
    found, total = await model_management.managed_models(
        context.services, context.actor, search=query.q, lacking=query.lacking, skip=(query.page - 1) * PAGE_SIZE, limit=PAGE_SIZE
    )
    words = {"q": query.q, "lacking": query.lacking}
    return view(
        "managed_models/list.html",
        models=found,
        total=total,
        query=words,
        page=query.page,
        size=PAGE_SIZE,
        groups=await group_choices(context),
    )


async def _chosen(context: Context) -> several.Rows:
    query: ListQuery = context.query
    found, total = await model_management.managed_models(
        context.services,
        context.actor,
        search=query.q,
        lacking=query.lacking,
        ids=several.chosen_of(context).ids,
        skip=0,
        limit=several.MOST,
    )
    return several.rows(((model.id, model.alias) for model in found), total, ("model", "models"))


_SHARE = Needs("Groups", "update_all")


@page(ROUTES, "GET", f"{BASE}/share", policy=_SHARE, query=ListQuery, summary="Share models with a group")
async def ask_share(context: Context) -> View:
    """Whom it lets call them, counted."""
    return await _asking(context, "Share", "with", several.share_sentences)


@page(
    ROUTES,
    "POST",
    f"{BASE}/share",
    policy=_SHARE,
    query=ListQuery,
    form=SeveralForm,
    again=ask_share,
    summary="Share models with a group",
)
async def share_several(context: Context) -> Go:
    """Let the group call them all, or none."""
    return await _set_grants(context, allowed=True)


@page(ROUTES, "GET", f"{BASE}/take", policy=_SHARE, query=ListQuery, summary="Take models from a group")
async def ask_take(context: Context) -> View:
    """Who cannot call them any more, counted."""
    return await _asking(context, "Take", "from", several.take_sentences)


@page(
    ROUTES,
    "POST",
    f"{BASE}/take",
    policy=_SHARE,
    query=ListQuery,
    form=SeveralForm,
    again=ask_take,
    summary="Take models from a group",
)
async def take_several(context: Context) -> Go:
    """Let the group call none of them."""
    return await _set_grants(context, allowed=False)


async def _asking(context: Context, verb: str, word: str, told: Callable[[Sharing, int], list[str]]) -> View:
    chosen = await _chosen(context)
    trail = ("Manage models", address(BASE, {"q": context.query.q, "lacking": context.query.lacking}))
    if not chosen.ids:
        return several.asking(chosen, verb, [], trail=trail)
    found = await sharing(context.services, context.actor, several.chosen_of(context).needed_group, chosen.ids)
    return several.asking(chosen, verb, told(found, len(chosen.ids)), trail=trail, rest=f"{word} {found.group}")


async def _set_grants(context: Context, *, allowed: bool) -> Go:
    chosen, group_id = await _chosen(context), several.chosen_of(context).needed_group
    several.check(context.body, chosen)
    before = await set_grants(context.services, context.actor, {(group_id, model_id): allowed for model_id in chosen.ids})
    return go(BASE, f"{len(before)} of {chosen.said} {'shared' if allowed else 'taken'}. It holds from the next request on.")


@page(ROUTES, "GET", f"{BASE}/<model_id>/identity", policy=_MANAGE, summary="Identity of a model")
async def show_identity(context: Context) -> View:
    """What it is called and what it can do."""
    return await _section(context, "identity", await _model(context))


@page(ROUTES, "POST", f"{BASE}/<model_id>/identity", policy=_MANAGE, form=IdentityForm, again=show_identity, summary="Identity of a model")
async def save_identity(context: Context) -> Go:
    """Save it."""
    form: IdentityForm = context.body
    model = await _model(context)
    metadata = {name: value for name, value in model.metadata.items() if name not in ("provider", "context_window")}
    if form.provider:
        metadata["provider"] = check_text(form.provider, "provider")
    if form.context_window is not None:
        if not 1 <= form.context_window <= MAX_INT:
            raise wrong("context_window", "Must be a whole number from 1.")
        metadata["context_window"] = form.context_window
    change = models.ModelUpdate(
        alias=form.alias,
        model_name=form.model_name,
        display_name=form.display_name or "",
        description=form.description or "",
        model_type=form.model_type,
        capabilities=split_words(form.capabilities),
        metadata=metadata,
    )
    await models.change_model(context.services, context.actor, model.id, change, revision=form.revision)
    return _saved(model.id, "identity", "The identity is saved.")


@page(ROUTES, "GET", f"{BASE}/<model_id>/limits", policy=_MANAGE, summary="Limits of a model")
async def show_limits(context: Context) -> View:
    """How much it may be used, and how its answers are counted and kept."""
    return await _section(context, "limits", await _model(context), tokenizers=[(name, name) for name in tokens.TOKENIZERS])


@page(ROUTES, "POST", f"{BASE}/<model_id>/limits", policy=_MANAGE, form=LimitsForm, again=show_limits, summary="Limits of a model")
async def save_limits(context: Context) -> Go:
    """Save them; they hold from the next request on."""
    form: LimitsForm = context.body
    model_id = context.uuid("model_id")
    fields = msgspec.structs.asdict(form)
    revision = fields.pop("revision")
    await models.change_model(context.services, context.actor, model_id, models.ModelUpdate(**fields), revision=revision)
    return _saved(model_id, "limits", "The limits are saved. They hold from the next request on.")


@page(ROUTES, "GET", f"{BASE}/<model_id>/access", policy=_MANAGE, summary="Access to a model")
async def show_access(context: Context) -> View:
    """The groups that may call it."""
    model = await _model(context)
    held = await catalog_views.model_groups(context.actor, model.id)
    groups = await group_choices(context)
    names = [name for group_id, name, _ in groups if group_id in held]
    return await _section(context, "access", model, groups=groups, held=held, names=names)


@page(ROUTES, "POST", f"{BASE}/<model_id>/access", policy=_MANAGE, form=AccessForm, again=show_access, summary="Access to a model")
async def save_access(context: Context) -> Go:
    """Make the chosen groups the ones that may call it."""
    form: AccessForm = context.body
    model_id = context.uuid("model_id")
    before = await model_management.set_model_groups(context.services, context.actor, model_id, form.group, seen=form.seen.split())
    back = f"{BASE}/{model_id}/access"
    return go(back, undoable(context, "Access is saved. It holds from the next request on.", "grants", before, back=back))


@page(ROUTES, "GET", f"{BASE}/<model_id>/pricing", policy=_MANAGE, query=PriceQuery, summary="Prices of a model")
async def show_pricing(context: Context) -> View:
    """What it costs, and what it used to cost."""
    model = await _model(context)
    versions = await model_management.price_versions(context.actor, model.id)
    typed = context.form.value("purpose") if context.form is not None else context.query.purpose
    purpose = typed if typed in PURPOSES else "realtime"
    in_force = {version.terms.api_key_purpose: version for version in versions if version.valid_until is None}
    terms = in_force[purpose].terms if purpose in in_force else None
    return await _section(
        context,
        "pricing",
        model,
        versions=versions,
        purposes=PURPOSES,
        # There are no batches to price. A price that a program set for them can be seen and ended.
        choices=[key for key in PURPOSES if key != "batch" or key in in_force],
        purpose=purpose,
        terms=terms,
        in_force=in_force,
        per_million=per_million,
        per_request=money.format_price,
        currency=context.services.config.billing.currency,
    )


@page(ROUTES, "POST", f"{BASE}/<model_id>/pricing", policy=_MANAGE, form=PriceForm, again=show_pricing, summary="Price a model")
async def save_price(context: Context) -> Go:
    """Begin a new version of the price."""
    form: PriceForm = context.body
    model_id = context.uuid("model_id")
    if not any((form.input_price, form.output_price, form.request_price)):
        raise FormError({"input_price": "Write a price: 0 for a model that is free. Or end the price that holds now."})
    begun = await model_management.set_price(
        context.services, context.actor, model_id, form.purpose, form.terms(form.purpose), revision=form.revision
    )
    text = "The new price holds from the next request on." if begun else "This is the price that holds already."
    return _saved(model_id, f"pricing?purpose={form.purpose}", text)


@page(ROUTES, "POST", f"{BASE}/<model_id>/pricing/end", policy=_MANAGE, form=EndForm, again=show_pricing, summary="End a price")
async def end_price(context: Context) -> Go:
    """Charge nothing by this price any more."""
    form: EndForm = context.body
    model_id = context.uuid("model_id")
    await model_management.set_price(context.services, context.actor, model_id, form.purpose, None, revision=form.revision)
    return _saved(model_id, f"pricing?purpose={form.purpose}", "The price has ended.")


@page(ROUTES, "GET", f"{BASE}/<model_id>/usage", policy=_MANAGE, summary="Usage of a model")
async def show_usage(context: Context) -> View:
    """Who used it how much in the last 30 days."""
    model = await _model(context)
    now = clock.now_us()
    day = 24 * clock.HOUR
    first = (now // day - _DAYS + 1) * day

    def asked(by: Literal["day", "user"]) -> explorer.Question:
        return explorer.Question(start_us=first, end_us=now, group_by=by, model_id=model.id)

    days = await explorer.explore(context.services, context.actor, asked("day"))
    users = await explorer.explore(context.services, context.actor, asked("user"))
    by_day = {int(group.key or 0): group.sums for group in days.groups}
    points = [(clock.to_rfc3339(at)[5:10], by_day.get(at)) for at in range(first, now, day)]
    return await _section(
        context,
        "usage",
        model,
        days=_DAYS,
        labels=[label for label, _ in points],
        answered=[sums.requests - sums.errors if sums else 0 for _, sums in points],
        failed=[sums.errors if sums else 0 for _, sums in points],
        total=days.total,
        users=users.groups,
    )


@page(ROUTES, "GET", f"{BASE}/<model_id>/danger", policy=Needs("Models", "delete_all"), summary="Delete a model")
async def ask_deletion(context: Context) -> View:
    """What goes with it."""
    model = await _model(context)
    found = await consequences(context.services, context.actor, "model", model.id)
    return await _section(context, "danger", model, sentences=sentences("model", found))


@page(
    ROUTES,
    "POST",
    f"{BASE}/<model_id>/danger",
    policy=Needs("Models", "delete_all"),
    form=DeleteForm,
    again=ask_deletion,
    summary="Delete a model",
)
async def delete_model(context: Context) -> Go:
    """Delete it, once its alias has been typed."""
    model = await _model(context)
    check_confirmed(context.body, model.alias)
    await models.delete_model(context.services, context.actor, model.id)
    return go(BASE, f"The model {model.alias} is deleted.")
