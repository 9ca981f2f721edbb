"""Setting up an endpoint in four steps: reach the provider, choose its models, say who may use them, done.

There is no draft beside the endpoint: what a step has settled is stored, and the next step asks the store what is left to do, so that
every step is a page that can be left and come back to. The first step stores an endpoint without models, which serves nobody; its
credential is sealed there and does not come back. The second step is also how an endpoint is compared with its provider later.
"""

import hashlib
from typing import Any

import msgspec

from dwctl.accounts import NIL
from dwctl.doorway import Needs, Route
from dwctl.errors import GatewayError
from dwctl.operations import endpoint_setup, endpoints
from dwctl.operations.endpoint_setup import Comparison
from dwctl.operations.model_management import obstacles
from dwctl.web.context import Context
from dwctl.web.endpoint_forms import BLANK, BY_KEY, PRESETS, SPEAKS, ConnectionForm, PriceFields, split_words
from dwctl.web.endpoints import BASE, connection, endpoint_of
from dwctl.web.forms import FormError, wrong
from dwctl.web.groups import group_choices
from dwctl.web.pages import Go, View, go, page, view

ROUTES: list[Route] = []
TICKED_AT_ONCE = 25
"""The first time, up to so many models are chosen beforehand."""

ADVICE = {
    "address": "Correct the URL below.",
    "unreachable": "Check the host and the port, that the provider is running, and that this server may reach it.",
    "tls": "Its certificate is not trusted here, as self-signed ones never are. Give it one that is, make the authority behind it known to"
    " this server's operating system, or use http:// inside a network that you trust.",
    "timeout": "It may be busy, or something on the way may swallow the request. Try again, or allow it longer: Advanced, first byte.",
    "credential": "Write the API key again. Some providers want it in another header: see Advanced.",
    "no_list": "If the URL and what it speaks are right, the provider does not list its models: name them by hand.",
    "status": "Try again in a while, or name the models by hand.",
    "bad_answer": "Most likely this is the address of a web site and not of an API, or the provider speaks something else.",
}


class NewQuery(msgspec.Struct, kw_only=True):
    preset: str | None = None
    look: bool = False


class ModelsQuery(msgspec.Struct, kw_only=True):
    by_hand: bool = False


class ChoiceForm(msgspec.Struct, kw_only=True):
    """``model``: the provider's names of what to take in; the alias of each is in a field of its own (``alias_field``)."""

    model: list[str] = []
    retire: list[str] = []
    revive: list[str] = []


class NamesForm(msgspec.Struct, kw_only=True):
    names: str


class ShareForm(PriceFields, kw_only=True):
    group: list[str] = msgspec.field(default_factory=list)


def alias_field(name: str) -> str:
    """The field that holds the alias for a provider's model."""
    return f"alias-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@page(ROUTES, "GET", f"{BASE}/new", policy=Needs("Endpoints", "create_all"), query=NewQuery, summary="Add an endpoint")
async def show_new(context: Context) -> View:
    """Step 1: how the provider is reached."""
    query = context.query or NewQuery()
    preset = BY_KEY.get(query.preset or "", BLANK)
    found = await endpoint_setup.local_servers(context.services, context.actor) if query.look else None
    left = await endpoint_setup.unfinished(context.services, context.actor)
    return view("endpoints/new.html", preset=preset, presets=[*PRESETS, BLANK], found=found, speaks=SPEAKS, unfinished=left)


@page(
    ROUTES,
    "POST",
    f"{BASE}/new",
    policy=Needs("Endpoints", "create_all"),
    form=ConnectionForm,
    again=show_new,
    summary="Add an endpoint",
)
async def create(context: Context) -> Go:
    """Store it without models, and go on to see what it has."""
    endpoint_id = await endpoints.create_endpoint(context.services, context.actor, context.body.creation())
    return go(f"{BASE}/{endpoint_id}/models")


@page(
    ROUTES,
    "GET",
    f"{BASE}/<endpoint_id>/models",
    policy=Needs("Endpoints", "update_all"),
    query=ModelsQuery,
    summary="Models of a provider",
)
async def show_models(context: Context) -> View:
    """Step 2: what the provider lists beside what is held of it; if it cannot be asked, why, and the form to mend that."""
    endpoint = await endpoint_of(context)
    if context.query is not None and context.query.by_hand:
        return await show_by_hand(context)
    found = await endpoint_setup.compare(context.services, context.actor, endpoint.id)
    if found.probe.failure is not None:
        failure = found.probe.failure
        return connection(endpoint, failure=failure, advice=ADVICE[failure.kind], first=not found.kept)
    return view(
        "endpoints/models.html", endpoint=endpoint, found=found, first=_is_first(found), alias_field=alias_field, ticked=_ticked(found)
    )


async def show_by_hand(context: Context) -> View:
    """Step 2 for a provider that does not list its models."""
    endpoint = await endpoint_of(context)
    held = await endpoint_setup.held_models(context.services, context.actor, endpoint.id)
    return view("endpoints/by_hand.html", endpoint=endpoint, held=held)


@page(
    ROUTES,
    "POST",
    f"{BASE}/<endpoint_id>/models",
    policy=Needs("Endpoints", "update_all"),
    form=ChoiceForm,
    again=show_models,
    summary="Take in models of a provider",
)
async def choose(context: Context) -> Go:
    """Take in what was chosen, and stop serving what somebody agrees is gone."""
    endpoint = await endpoint_of(context)
    form: ChoiceForm = context.body
    fields: Any = context.request.get_form(keep_blank_values=True)
    take = {name: str(fields.get(alias_field(name)) or "") for name in form.model}
    if not (take or form.retire or form.revive):
        raise FormError({}, "Nothing is chosen. Tick the models that you want.")
    try:
        await endpoint_setup.follow(context.services, context.actor, endpoint.id, take=take, retire=form.retire, revive=form.revive)
    except GatewayError as error:
        raise _at_aliases(error) from None
    if take:
        return go(f"{BASE}/{endpoint.id}/share")
    return go(f"{BASE}/{endpoint.id}", "The endpoint follows what you agreed to.")


@page(
    ROUTES,
    "POST",
    f"{BASE}/<endpoint_id>/models/by-hand",
    policy=Needs("Endpoints", "update_all"),
    form=NamesForm,
    again=show_by_hand,
    summary="Name models of a provider",
)
async def name_models(context: Context) -> Go:
    """Take in models by name: a line each, with another alias after an equals sign."""
    endpoint = await endpoint_of(context)
    take: dict[str, str] = {}
    for line in split_words(context.body.names):
        name, _, alias = line.partition("=")
        take[name.strip()] = alias.strip() or name.strip()
    if not take:
        raise wrong("names", "Write at least one name.")
    try:
        await endpoint_setup.follow(context.services, context.actor, endpoint.id, take=take)
    except GatewayError as error:
        conflicts = error.fields.get("conflicts", ())
        told = " ".join(f"{entry['model_name']}: {entry['message']}" for entry in conflicts) or error.message
        refused = wrong("names", told)
        refused.status = error.status
        raise refused from None
    return go(f"{BASE}/{endpoint.id}/share")


@page(ROUTES, "GET", f"{BASE}/<endpoint_id>/share", policy=Needs("Models", "update_all"), summary="Share an endpoint's models")
async def show_share(context: Context) -> View | Go:
    """Step 3: who may use the models that nobody may use yet."""
    endpoint = await endpoint_of(context)
    unshared = await endpoint_setup.unshared_models(context.services, context.actor, endpoint.id)
    if not unshared and context.form is None:
        return go(f"{BASE}/{endpoint.id}/ready")
    groups = await group_choices(context)
    currency = context.services.config.billing.currency
    return view("endpoints/share.html", endpoint=endpoint, unshared=unshared, groups=groups, everyone=NIL, currency=currency)


@page(
    ROUTES,
    "POST",
    f"{BASE}/<endpoint_id>/share",
    policy=Needs("Models", "update_all"),
    form=ShareForm,
    again=show_share,
    summary="Share an endpoint's models",
)
async def share(context: Context) -> Go:
    """Let the chosen groups use them, at the price if there is one."""
    endpoint = await endpoint_of(context)
    form: ShareForm = context.body
    if not form.group:
        raise wrong("group", "Choose at least one group. Who is in no group of a model does not see it.")
    terms = form.terms("realtime")
    costs = any((form.input_price, form.output_price, form.request_price))
    await endpoint_setup.share_models(context.services, context.actor, endpoint.id, form.group, [terms] if costs else [])
    return go(f"{BASE}/{endpoint.id}/ready")


@page(ROUTES, "GET", f"{BASE}/<endpoint_id>/ready", policy=Needs("Endpoints", "read_all"), summary="An endpoint is set up")
async def show_ready(context: Context) -> View:
    """Step 4: what can be done now."""
    endpoint = await endpoint_of(context)
    held = await endpoint_setup.held_models(context.services, context.actor, endpoint.id)
    unpaid = bool(held) and "balance" in await obstacles(context.services, context.actor, held[0].id)
    return view("endpoints/ready.html", endpoint=endpoint, held=held, unpaid=unpaid)


def _is_first(found: Comparison) -> bool:
    return not (found.gone or found.back or found.kept)


def _ticked(found: Comparison) -> list[str]:
    if not _is_first(found) or len(found.offered) > TICKED_AT_ONCE:
        return []
    return [model.name for model in found.offered if not model.deleted]


def _at_aliases(error: GatewayError) -> GatewayError:
    """The error with its messages at the fields of the aliases."""
    conflicts = error.fields.get("conflicts")
    if not conflicts:
        return error
    placed = FormError({alias_field(entry["model_name"]): entry["message"] for entry in conflicts})
    placed.status = error.status
    return placed
