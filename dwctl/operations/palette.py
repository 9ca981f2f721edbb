"""Finding things by a few letters: models, groups, endpoints, users, API keys, and a request by its id. Only what the actor may see."""

from typing import Literal

import msgspec

from dwctl.accounts import NIL, Actor, policy
from dwctl.errors import GatewayError
from dwctl.operations import catalog_views
from dwctl.operations.catalog_views import ModelFilter
from dwctl.operations.requests import request_row
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services


class Hit(msgspec.Struct, frozen=True):
    """``label`` is what to show, ``hint`` what tells it from others; ``owner_id`` of a key is the account that it belongs to."""

    kind: Literal["model", "group", "endpoint", "user", "api_key", "request"]
    id: str
    label: str
    hint: str
    owner_id: str | None = None


async def find(services: Services, actor: Actor, text: str, *, limit: int = 6) -> list[Hit]:
    """At most ``limit`` hits of each kind, by name; nothing for an empty text."""
    text = text.strip()[:255]
    if not text:
        return []
    hits: list[Hit] = []
    if (known := canonical(text)) is not None:
        try:
            row = await request_row(services, actor, known)
        except GatewayError:
            pass
        else:
            hits.append(Hit("request", known, known, f"{row['status']} {row['alias'] or row['path']}"))
    page = await catalog_views.list_models(services, actor, ModelFilter(search=text, sort="alias", descending=False), skip=0, limit=limit)
    hits += [Hit("model", model.id, model.alias, model.model_name) for model in page.models]
    fetch, containing = services.store.fetch, services.store.containing
    if policy.allows(actor, "Groups", "read_all"):
        condition, found = containing(text, "name")
        hits += [
            Hit("group", str(row["id"]), row["name"], row["description"] or "")
            for row in await fetch(
                f"SELECT id, name, description FROM groups WHERE deleted_at IS NULL AND {condition} ORDER BY name, id LIMIT ?",
                (*found, limit),
            )
        ]
    if policy.allows(actor, "Endpoints", "read_all"):
        condition, found = containing(text, "name")
        hits += [
            Hit("endpoint", str(row["id"]), row["name"], row["url"])
            for row in await fetch(
                f"SELECT id, name, url FROM inference_endpoints WHERE deleted_at IS NULL AND {condition} ORDER BY name LIMIT ?",
                (*found, limit),
            )
        ]
    if policy.allows(actor, "Users", "read_all"):
        condition, found = containing(text, "username", "email")
        hits += [
            Hit("user", str(row["id"]), row["username"], row["email"])
            for row in await fetch(
                f"SELECT id, username, email FROM users WHERE deleted_at IS NULL AND id <> ? AND {condition} ORDER BY username LIMIT ?",
                (NIL, *found, limit),
            )
        ]
    everybody = policy.allows(actor, "ApiKeys", "read_all")
    if everybody or policy.allows(actor, "ApiKeys", "read_own"):
        own, args = ("", []) if everybody else (" AND user_id = ?", [actor.user_id])
        condition, found = containing(text, "name")
        hits += [
            Hit("api_key", str(row["id"]), row["name"], row["secret_hint"], str(row["user_id"]))
            for row in await fetch(
                "SELECT id, name, secret_hint, user_id FROM api_keys WHERE deleted_at IS NULL AND NOT hidden"
                f" AND {condition}{own} ORDER BY name, id LIMIT ?",
                (*found, *args, limit),
            )
        ]
    return hits
