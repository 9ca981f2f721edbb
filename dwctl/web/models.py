"""``/models``: what can be called, what it costs and can do, and why one cannot be called."""

from typing import Any, Literal

import msgspec

from dwctl.catalog import Purpose
from dwctl.doorway import Authenticated, Route
from dwctl.operations import catalog_views, model_management
from dwctl.operations.catalog_views import ModelFilter, ModelView, Sort
from dwctl.operations.model_management import Obstacle
from dwctl.operations.snippets import model_kind, snippets
from dwctl.web.addresses import api_base
from dwctl.web.context import Context
from dwctl.web.pages import Nav, PageNumber, View, page, view

ROUTES: list[Route] = []
PAGE_SIZE = 50
_SORTS: dict[str, Sort] = {"alias": "alias", "price": "price_from", "context": "context_window"}

PURPOSES: dict[Purpose, str] = {"realtime": "API keys", "playground": "Playground", "batch": "Batches (not served)"}
"""What a price is for, in words."""
OBSTACLES: dict[Obstacle, str] = {
    "provider": "Its provider does not list it any more, so it is served to nobody.",
    "groups": "None of your groups may call it.",
    "balance": "Calling it costs credits, and your balance is used up.",
}


class CatalogueQuery(msgspec.Struct, kw_only=True):
    q: str | None = None
    kind: str | None = None
    capability: str | None = None
    provider: str | None = None
    sort: Literal["alias", "-alias", "price", "-price", "context", "-context"] = "alias"
    page: PageNumber = 1


@page(
    ROUTES,
    "GET",
    "/models",
    policy=Authenticated(),
    query=CatalogueQuery,
    summary="Models",
    nav=Nav("Build", "Models", "boxes", 10, key="m"),
)
async def show_models(context: Context) -> View:
    """The catalogue of what the visitor can see."""
    query: CatalogueQuery = context.query
    chosen = ModelFilter(
        search=query.q,
        model_type=query.kind,
        capability=query.capability,
        provider=query.provider,
        sort=_SORTS[query.sort.removeprefix("-")],
        descending=query.sort.startswith("-"),
    )
    found = await catalog_views.list_models(
        context.services, context.actor, chosen, skip=(query.page - 1) * PAGE_SIZE, limit=PAGE_SIZE, include=("pricing", "facets")
    )
    assert found.facets is not None
    words = msgspec.structs.asdict(query) | {"page": None, "sort": None if query.sort == "alias" else query.sort}
    return view(
        "models/list.html",
        models=found.models,
        total=found.total,
        kinds=[(kind, kind.capitalize()) for kind in found.facets.model_types],
        capabilities=[(word, word) for word in found.facets.capabilities],
        providers=[(name, name) for name in found.facets.providers],
        query=words,
        sort=query.sort,
        page=query.page,
        size=PAGE_SIZE,
        usable=await catalog_views.reach_of(context.actor),
    )


@page(ROUTES, "GET", "/models/<model_id>", policy=Authenticated(), summary="A model")
async def show_model(context: Context) -> View:
    """What it is, what it costs, how it is called, and what keeps the visitor from calling it."""
    model = await catalog_views.get_model(context.services, context.actor, context.uuid("model_id"), include=("pricing",))
    obstacles = await model_management.obstacles(context.services, context.actor, model.id)
    return view(
        "models/page.html",
        model=model,
        obstacles=[(what, OBSTACLES[what]) for what in obstacles],
        code=snippets(api_base(context), model.alias, model_kind(model.model_type)),
        limits=_limits(model),
        purposes=PURPOSES,
    )


def _limits(model: ModelView) -> list[tuple[str, str]]:
    """The limits that hold for everyone, as far as the visitor may know them."""
    told: tuple[tuple[str, Any, str], ...] = (
        ("Requests per second", model.requests_per_second, ""),
        ("Requests at once", model.capacity, ""),
        ("Output of a request", model.max_output_tokens, " tokens at most"),
    )
    return [(name, f"{value:,}{unit}") for name, value, unit in told if isinstance(value, int | float)]
