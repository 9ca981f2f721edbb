"""What somebody writes into the search and the filters of requests, turned into a filter, and said back in words.

Everything that is searched for is exact, since only that can be found by index: an id, a status, a key's name or id, a user's address,
an endpoint's name, a tag, a model's alias. Whoever reads only their own requests finds only their own keys.
"""

import re
from typing import Any

import msgspec

from dwctl.accounts import Actor, policy
from dwctl.accounts.policy import Resource
from dwctl.operations import request_log
from dwctl.operations.request_log import OUTCOME_WORDS, RequestFilter
from dwctl.operations.requests import account_named
from dwctl.operations.rows import canonical
from dwctl.operations.services import Services

_STATUS = re.compile(r"([1-9]\d\d)|([1-5])xx", re.IGNORECASE)


class Words(msgspec.Struct, kw_only=True):
    """As typed. ``search`` is any of the others, without saying which. An id may be one that nothing here has."""

    search: str | None = None
    model: str | None = None
    endpoint: str | None = None
    key: str | None = None
    """Its name, or its id."""
    user: str | None = None
    """The e-mail address, or the id."""
    status: str | None = None
    """A number, or a class such as ``5xx``."""
    outcome: str | None = None
    tag: str | None = None


class Understood(msgspec.Struct, kw_only=True):
    """``chosen`` has no time range yet. ``said``: field -> what it names, for people. ``problems``: field -> a sentence."""

    chosen: RequestFilter
    said: dict[str, str] = {}
    problems: dict[str, str] = {}


async def understand(services: Services, actor: Actor, words: Words, resource: Resource = "Requests") -> Understood:
    """The filter that the words mean. ``resource`` is what is looked at: whoever may not read everybody's finds their own keys and
    themselves. Raises GatewayError 403 for another user without that right."""
    everybody = policy.allows(actor, resource, "read_all")
    found = Understood(chosen=RequestFilter(model=words.model, endpoint=words.endpoint, tag=words.tag))
    found.said |= {name: value for name in ("model", "endpoint", "outcome", "tag") if (value := getattr(words, name)) is not None}
    if words.status is not None:
        _status(found, words.status)
    if words.outcome is not None:
        found.chosen.outcome = words.outcome
        if words.outcome not in OUTCOME_WORDS:
            found.problems["outcome"] = f"Choose one of: {', '.join(OUTCOME_WORDS)}."
    if words.key is not None:
        known = canonical(words.key)
        keys = await _keys(services, None if everybody else actor, words.key) or ([(known, known)] if known is not None else [])
        if len(keys) == 1:
            found.chosen.key_id, found.said["key"] = keys[0]
        else:
            reason = f"{len(keys)} keys have this name: write the id of one." if keys else "No API key has this name or id."
            found.problems["key"] = reason
    if words.user is not None:
        if not everybody:
            mine = words.user.strip().lower() in (actor.user_id, actor.email.lower())
            policy.require_for(actor, resource, "read_all", actor.user_id if mine else "")
        known = canonical(words.user)
        user = await _user(services, words.user) or (None if known is None else (known, known))
        if user is None:
            found.problems["user"] = "Nobody has this e-mail address or id."
        else:
            found.chosen.user_id, found.said["user"] = user
    if words.search is not None:
        await _search(services, None if everybody else actor, found, words.search.strip())
    return found


def _status(found: Understood, text: str) -> None:
    match = _STATUS.fullmatch(text.strip())
    if match is None:
        found.problems["status"] = "Write a status such as 429, or a class such as 5xx."
        return
    found.said["status"] = text.strip().lower()
    if match[1]:
        found.chosen.status_code = int(match[1])
    else:
        found.chosen.status_code_min, found.chosen.status_code_max = int(match[2]) * 100, int(match[2]) * 100 + 99


async def _keys(services: Services, owner: Actor | None, text: str) -> list[tuple[str, str]]:
    """Ids and names of the keys (the owner's, or anybody's) that a text means, deleted ones included."""
    known = canonical(text)
    where, args = ("id = ?", [known]) if known is not None else ("name = ?", [text])
    if owner is not None:
        where, args = f"{where} AND user_id = ?", [*args, owner.user_id]
    rows = await services.store.fetch(f"SELECT id, name FROM api_keys WHERE {where} LIMIT 20", args)
    return [(str(row["id"]), row["name"]) for row in rows]


async def _user(services: Services, text: str) -> tuple[str, str] | None:
    found = await account_named(services, text)
    return None if found is None else (str(found["id"]), found["email"])


async def _search(services: Services, owner: Actor | None, found: Understood, text: str) -> None:
    known = canonical(text)
    field, value, name = "model", text, text
    if _STATUS.fullmatch(text):
        _status(found, text)
        found.said["search"] = f"status {found.said.pop('status')}"
        return
    if known is not None:
        field, value, name = "request_id", known, known
        if not await services.store.fetch("SELECT 1 FROM requests WHERE id = ?", (known,)):
            if keys := await _keys(services, owner, known):
                field, (value, name) = "key_id", keys[0]
            elif owner is None and (user := await _user(services, known)):
                field, (value, name) = "user_id", user
    elif owner is None and "@" in text and (user := await _user(services, text)):
        field, (value, name) = "user_id", user
    elif text not in services.snapshot().models:
        if len(keys := await _keys(services, owner, text)) == 1:
            field, (value, name) = "key_id", keys[0]
        elif owner is None and await services.store.fetch("SELECT 1 FROM requests WHERE endpoint_name = ? LIMIT 1", (text,)):
            field = "endpoint"
        elif await _is_tag(services, owner, text):
            field = "tag"
    setattr(found.chosen, field, value)
    found.said["search"] = f"{_SAID[field]} {name}"


async def _is_tag(services: Services, owner: Actor | None, text: str) -> bool:
    """Whether a request (of the owner's, or anybody's) has this tag."""
    chosen = RequestFilter(tag=text, user_id=None if owner is None else owner.user_id)
    found = await request_log.plan(services.store, chosen)
    return found is not None and bool(await request_log.seqs(services.store, found, limit=1))


_SAID: dict[str, Any] = {
    "request_id": "request",
    "key_id": "API key",
    "user_id": "user",
    "endpoint": "endpoint",
    "tag": "tag",
    "model": "model",
}
