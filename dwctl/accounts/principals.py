"""API keys as the hot path sees them: a hash, and the principal that it stands for.

The keyring holds every live key in memory. Rows are applied one by one as they change; it is never rebuilt for a change.
Secrets are 256 random bits, so that one SHA-256 is enough to store them (no salt, no stretching: there is nothing to
guess), and a lookup by hash needs no constant-time comparison.
"""

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import msgspec

from dwctl.accounts.touches import Touches
from dwctl.config.schema import RateLimit, RateLimits

if TYPE_CHECKING:
    from dwctl.store import Store

NIL = "00000000-0000-0000-0000-000000000000"
"""The system user, and the group Everyone: each in its own id space."""

_CHUNK = 500
_PAGE = 5_000
"""Rows read at once: a hundred thousand keys are not held twice, and the loop turns in between."""


class Principal(msgspec.Struct, frozen=True, gc=False):
    """On whose behalf a request runs: who pays, who holds the key, what it may reach and how fast."""

    key_id: str | None
    account_id: str
    """The owner: who pays, and whose groups give access."""
    holder_id: str
    """The person whose roles the key acts with."""
    purpose: str
    groups: frozenset[str] = frozenset()
    """The owner's groups; has Everyone (NIL), except for the system account."""
    rps: float | None = None
    burst: int | None = None
    max_concurrency: int | None = None
    bodies: str | None = None
    """full | preview | none; None: as the model, then the configuration, says."""
    always_stream_usage: bool = False
    expires_us: int | None = None
    zero_data_retention: bool = False
    is_admin: bool = False
    roles: frozenset[str] = frozenset()


class Person(msgspec.Struct, frozen=True, gc=False):
    """What the keyring knows of a live user."""

    email: str
    is_admin: bool
    roles: frozenset[str]
    groups: frozenset[str]
    verified: bool
    zero_data_retention: bool


class _Key(msgspec.Struct, frozen=True, gc=False):
    id: str
    secret_hash: bytes
    owner: str
    holder: str
    purpose: str
    rps: float | None
    burst: int | None
    max_concurrency: int | None
    bodies: str | None
    always_stream_usage: bool
    expires_us: int | None


class KeyChange(Protocol):
    """A row of the change log."""

    @property
    def area(self) -> str: ...
    @property
    def entity_id(self) -> str | None: ...


def hash_secret(secret: str) -> str:
    """SHA-256 of a secret, in hex: what the store keeps."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def hint_of(secret: str) -> str:
    """The part of a secret that pages may show."""
    return secret[:7]


def new_secret() -> tuple[str, str, str]:
    """A new API key: the secret (46 characters), its hash, its hint."""
    secret = "sk-" + urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return secret, hash_secret(secret), hint_of(secret)


_KEY_COLUMNS = ", ".join(
    (
        *("id", "secret_hash", "user_id", "created_by", "purpose", "requests_per_second", "burst_size", "max_concurrency"),
        *("bodies", "always_stream_usage", "expires_at"),
    )
)
_USER_COLUMNS = "id, email, is_admin, roles, verified, zero_data_retention"


class Keyring:
    """Every live key and user, in memory. ``rate_limits`` are the limits of keys that have none of their own."""

    def __init__(self, rate_limits: RateLimits | None = None) -> None:
        self.touches = Touches()
        self._rate_limits = rate_limits
        self._principals: dict[bytes, Principal] = {}
        self._keys: dict[str, _Key] = {}
        self._people: dict[str, Person] = {}
        self._keys_of: dict[str, set[str]] = {}
        self.access: Counter[tuple[str, frozenset[str]]] = Counter()
        """How many keys there are of each purpose with access through the same groups."""

    def __len__(self) -> int:
        return len(self._principals)

    def find(self, secret: str) -> Principal | None:
        """The principal of a secret; None for an unknown or deleted key, and when its owner or holder is deleted.
        Expiry is the caller's to check, by ``expires_us``."""
        return self._principals.get(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest())

    def principal_of_key(self, key_id: str) -> Principal | None:
        """As ``find``, by the key's id."""
        key = self._keys.get(key_id)
        principal = self._principals.get(key.secret_hash) if key is not None else None
        return principal if principal is not None and principal.key_id == key_id else None

    def principal_of_person(self, user_id: str, purpose: str) -> Principal | None:
        """A live user who calls models without a key, with the limits of keys that have none of their own."""
        person = self._people.get(user_id)
        if person is None:
            return None
        tier = self.tier(person)
        return Principal(
            key_id=None,
            account_id=user_id,
            holder_id=user_id,
            purpose=purpose,
            groups=person.groups,
            rps=tier.requests_per_second if tier else None,
            burst=tier.burst_size if tier else None,
            zero_data_retention=person.zero_data_retention,
            is_admin=person.is_admin,
            roles=person.roles,
        )

    def last_used(self, key_id: str) -> int | None:
        """When a key was used, as long as that is not in the database yet."""
        return self.touches.noted(key_id)

    def person(self, user_id: str) -> Person | None:
        """A live user, or None."""
        return self._people.get(user_id)

    def touch(self, key_id: str, at_us: int) -> None:
        """Note that a key was used. Reaches the database within 30 s once ``start`` was called; bumps no change version."""
        self.touches.key(key_id, at_us)

    def start(self, store: "Store") -> None:
        """Begin to write last uses to the store, in the background."""
        self.touches.start(store)

    async def close(self) -> None:
        """Write what is outstanding, and stop."""
        await self.touches.close()

    async def load(self, store: "Store") -> None:
        """Read every live key and user. What changes while it reads must be applied afterwards. Raises StoreUnavailable."""
        fresh = Keyring(self._rate_limits)
        await fresh._read(store)
        # Swapped at once: a key must not be unknown while everything is read again.
        self._people, self._principals, self._keys, self._keys_of = fresh._people, fresh._principals, fresh._keys, fresh._keys_of
        self.access = fresh.access

    async def _read(self, store: "Store") -> None:
        async for rows in _pages(store, _USER_COLUMNS, "users"):
            ids = [str(row["id"]) for row in rows]
            members = await store.fetch(f"SELECT user_id, group_id FROM user_groups WHERE user_id IN ({', '.join('?' * len(ids))})", ids)
            self._people |= _people(rows, members)
        async for rows in _pages(store, _KEY_COLUMNS, "api_keys"):
            for row in rows:
                self._put(_key(row))

    async def apply(self, store: "Store", changes: Iterable[KeyChange]) -> None:
        """Follow changed keys (area ``key``) and users (area ``user``: groups, roles, deletion). Raises StoreUnavailable."""
        keys: set[str] = set()
        users: set[str] = set()
        for change in changes:
            if change.area in ("key", "user"):
                if change.entity_id is None:
                    return await self.load(store)
                (keys if change.area == "key" else users).add(change.entity_id)
        for some in _chunks(users):
            await self._refresh_users(store, some)
        for some in _chunks(keys):
            await self._refresh_keys(store, some)

    async def _refresh_users(self, store: "Store", ids: Sequence[str]) -> None:
        places = ", ".join("?" * len(ids))
        users = await store.fetch(f"SELECT {_USER_COLUMNS} FROM users WHERE deleted_at IS NULL AND id IN ({places})", ids)
        members = await store.fetch(f"SELECT user_id, group_id FROM user_groups WHERE user_id IN ({places})", ids)
        fresh = _people(users, members)
        for user_id in ids:
            if user_id in fresh:
                self._people[user_id] = fresh[user_id]
            else:
                self._people.pop(user_id, None)
            for key_id in self._keys_of.get(user_id, ()):
                self._bind(self._keys[key_id])

    async def _refresh_keys(self, store: "Store", ids: Sequence[str]) -> None:
        places = ", ".join("?" * len(ids))
        rows = await store.fetch(f"SELECT {_KEY_COLUMNS} FROM api_keys WHERE deleted_at IS NULL AND id IN ({places})", ids)
        fresh = {key.id: key for key in map(_key, rows)}
        for key_id in ids:
            self._drop(key_id)
            if key_id in fresh:
                self._put(fresh[key_id])

    def _put(self, key: _Key) -> None:
        self._keys[key.id] = key
        for user_id in {key.owner, key.holder}:
            self._keys_of.setdefault(user_id, set()).add(key.id)
        self._bind(key)

    def _drop(self, key_id: str) -> None:
        key = self._keys.pop(key_id, None)
        if key is None:
            return
        bound = self._principals.get(key.secret_hash)
        if bound is not None and bound.key_id == key_id:
            # Else the secret is another key's by now: that of a rotated key goes on for a while under an id of its own.
            self._place(key.secret_hash, None)
        for user_id in {key.owner, key.holder}:
            ids = self._keys_of[user_id]
            ids.discard(key_id)
            if not ids:
                del self._keys_of[user_id]

    def _bind(self, key: _Key) -> None:
        """Form the key's principal from the key, its owner and its holder; none if one of them is gone."""
        owner = self._people.get(key.owner)
        holder = self._people.get(key.holder)
        if owner is None or holder is None:
            self._place(key.secret_hash, None)
            return
        rps, burst = self._limits(key, owner)
        principal = Principal(
            key_id=key.id,
            account_id=key.owner,
            holder_id=key.holder,
            purpose=key.purpose,
            groups=owner.groups,
            rps=rps,
            burst=burst,
            max_concurrency=key.max_concurrency,
            bodies=key.bodies,
            always_stream_usage=key.always_stream_usage,
            expires_us=key.expires_us,
            zero_data_retention=owner.zero_data_retention,
            is_admin=holder.is_admin,
            roles=holder.roles,
        )
        self._place(key.secret_hash, principal)

    def _place(self, secret_hash: bytes, principal: Principal | None) -> None:
        old = self._principals.pop(secret_hash, None)
        if old is not None:
            left = self.access[old.purpose, old.groups] - 1
            if left:
                self.access[old.purpose, old.groups] = left
            else:
                del self.access[old.purpose, old.groups]
        if principal is not None:
            self._principals[secret_hash] = principal
            self.access[principal.purpose, principal.groups] += 1

    def _limits(self, key: _Key, owner: Person) -> tuple[float | None, int | None]:
        if key.rps is not None or key.owner == NIL:
            return key.rps, key.burst
        tier = self.tier(owner)
        return (tier.requests_per_second, key.burst if key.burst is not None else tier.burst_size) if tier else (None, key.burst)

    def tier(self, person: Person) -> RateLimit | None:
        """The limit of a person's keys that have none of their own."""
        if self._rate_limits is None:
            return None
        return self._rate_limits.verified if person.verified else self._rate_limits.unverified


_shared_sets: WeakValueDictionary[frozenset[str], frozenset[str]] = WeakValueDictionary()


def _shared(items: Iterable[str]) -> frozenset[str]:
    """One object per distinct set: a hundred thousand users have a handful of combinations of roles and groups."""
    found = frozenset(items)
    return _shared_sets.setdefault(found, found)


def _people(users: Iterable[dict[str, Any]], members: Iterable[dict[str, Any]]) -> dict[str, Person]:
    groups: dict[str, list[str]] = {}
    for row in members:
        groups.setdefault(str(row["user_id"]), []).append(str(row["group_id"]))
    people = {}
    for row in users:
        user_id = str(row["id"])
        mine = groups.get(user_id, [])
        if user_id != NIL:
            mine.append(NIL)
        people[user_id] = Person(
            email=row["email"],
            is_admin=bool(row["is_admin"]),
            roles=_shared(roles_of(row["roles"])),
            groups=_shared(mine),
            verified=bool(row["verified"]),
            zero_data_retention=bool(row["zero_data_retention"]),
        )
    return people


def roles_of(stored: str | list[str]) -> list[str]:
    """Roles as the store gives them: JSON text, or already a list, depending on the database."""
    return json.loads(stored) if isinstance(stored, str) else list(stored)


def _key(row: dict[str, Any]) -> _Key:
    return _Key(
        id=str(row["id"]),
        secret_hash=bytes.fromhex(row["secret_hash"]),
        owner=str(row["user_id"]),
        holder=str(row["created_by"]),
        purpose=row["purpose"],
        rps=row["requests_per_second"],
        burst=row["burst_size"],
        max_concurrency=row["max_concurrency"],
        bodies=row["bodies"],
        always_stream_usage=bool(row["always_stream_usage"]),
        expires_us=row["expires_at"],
    )


async def _pages(store: "Store", columns: str, table: str) -> AsyncIterator[list[dict[str, Any]]]:
    """The live rows of a table, in order of their ids."""
    after = NIL
    condition = ">="
    while rows := await store.fetch(
        f"SELECT {columns} FROM {table} WHERE deleted_at IS NULL AND id {condition} ? ORDER BY id LIMIT {_PAGE}", (after,)
    ):
        yield rows
        after, condition = str(rows[-1]["id"]), ">"


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]
