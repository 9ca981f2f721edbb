"""How far the set-up is, as the database says: nothing is ticked off by hand."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from dwctl.accounts import Actor, policy
from dwctl.operations.services import Services

Name = Literal["password", "endpoint", "model", "share", "credit", "key", "request", "price"]

_ANSWERED = "SELECT 1 FROM usage_hourly WHERE requests > errors"
_FACTS: tuple[tuple[Name, str], ...] = (
    ("endpoint", "SELECT 1 FROM inference_endpoints WHERE deleted_at IS NULL"),
    ("model", "SELECT 1 FROM deployed_models WHERE deleted_at IS NULL"),
    ("share", "SELECT 1 FROM deployment_groups d JOIN deployed_models m ON m.id = d.model_id WHERE m.deleted_at IS NULL"),
    ("credit", "SELECT 1 FROM account_balances WHERE balance_nano > 0"),
    ("key", "SELECT 1 FROM api_keys WHERE deleted_at IS NULL AND NOT hidden AND purpose = 'realtime'"),
    ("request", _ANSWERED),
    (
        "price",
        "SELECT 1 FROM model_tariffs t JOIN deployed_models m ON m.id = t.model_id WHERE m.deleted_at IS NULL AND t.valid_until IS NULL"
        " AND (t.input_pico > 0 OR t.output_pico > 0 OR t.per_request_pico > 0)",
    ),
)


class Step(msgspec.Struct, frozen=True):
    """One line of the list, in the order in which it makes sense to do them.

    password: the administrator has a password of their own. endpoint, model: there is one. share: a group may call a model. credit:
    an account has some; asked for only where a model costs something. key: there is one for model calls. request: one was answered.
    price: a model costs something.
    """

    name: Name
    done: bool


async def checklist(services: Services, actor: Actor) -> list[Step]:
    """The installation's steps for whoever manages models, otherwise the two of one's own (key, request)."""
    if not policy.allows(actor, "Models", "create_all"):
        own = {
            "key": "SELECT 1 FROM api_keys WHERE deleted_at IS NULL AND NOT hidden AND purpose = 'realtime' AND user_id = ?",
            "request": f"{_ANSWERED} AND account_id = ?",
        }
        [row] = await services.store.fetch(f"SELECT {_exist(own)}", [actor.user_id] * len(own))
        return [Step("key", bool(row["step_key"])), Step("request", bool(row["step_request"]))]
    facts = {
        "password": "SELECT 1 FROM users WHERE live_email = ? AND password_hash IS NOT NULL AND NOT must_change_password",
        **dict(_FACTS),
    }
    [row] = await services.store.fetch(f"SELECT {_exist(facts)}", (services.config.admin_email.strip().lower(),))
    steps = [Step("password", bool(row["step_password"])), *(Step(name, bool(row[f"step_{name}"])) for name, _ in _FACTS)]
    return [step for step in steps if step.name != "credit" or row["step_price"]]


def _exist(facts: Mapping[Any, str]) -> str:
    return ", ".join(f"EXISTS ({sql}) AS step_{name}" for name, sql in facts.items())
