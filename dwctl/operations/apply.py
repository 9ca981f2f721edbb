"""``dwctl apply``: endpoints, groups, users, models with prices, keys and grants from one file. docs/apply.md describes it.

The file is read and checked as a whole before anything is written; then every entry is one transaction, so that a server
that runs beside it is never kept waiting, and running it again after a stop carries on. What the database already says is
not written again: applying a file twice changes nothing the second time. What the file does not mention is left alone.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET
from tortoise.exceptions import IntegrityError

from dwctl import catalog, clock, ids, money
from dwctl.accounts import CLI, NIL, Actor, hash_secret, hint_of, new_secret
from dwctl.accounts.policy import ROLES
from dwctl.errors import ConfigurationError, GatewayError
from dwctl.ledger import transactions
from dwctl.operations import endpoints, groups, models, users
from dwctl.operations.apply_file import (
    Document,
    EndpointEntry,
    GrantEntry,
    GroupEntry,
    KeyEntry,
    ModelEntry,
    Place,
    PriceEntry,
    Source,
    UserEntry,
    read,
)
from dwctl.operations.audit import audit
from dwctl.operations.rows import change_row
from dwctl.sealing import Sealer, Secret
from dwctl.store import Changes, Store, Tx
from dwctl.store.tables import ApiKey, DeployedModel, Endpoint, Group, Transaction, User, UserGroup

EVERYONE = "Everyone"
MIN_SECRET = 16
Outcome = Literal["created", "updated", "unchanged"]


class Target(Protocol):
    """What is applied to: the database, and the key that seals credentials."""

    @property
    def store(self) -> Store: ...
    @property
    def sealer(self) -> Sealer: ...


class NewKey(msgspec.Struct, frozen=True):
    """A key that was made without a given secret: this is the only time that the secret is known."""

    user: str
    name: str
    secret: str


class Report(msgspec.Struct):
    """What applying did: numbers by kind of entry, and the secrets of new keys."""

    created: dict[str, int] = msgspec.field(default_factory=dict)
    updated: dict[str, int] = msgspec.field(default_factory=dict)
    unchanged: dict[str, int] = msgspec.field(default_factory=dict)
    new_keys: list[NewKey] = msgspec.field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.created or self.updated)

    def count(self, kind: str, outcome: Outcome) -> None:
        numbers: dict[str, int] = getattr(self, outcome)
        numbers[kind] = numbers.get(kind, 0) + 1

    def lines(self) -> list[str]:
        """The report for people, without secrets."""
        told = [
            f"{outcome}: {', '.join(f'{number} {kind}' for kind, number in numbers.items())}"
            for outcome, numbers in (("created", self.created), ("updated", self.updated), ("unchanged", self.unchanged))
            if numbers
        ]
        if not self.changed:
            told.append("Nothing had to be changed.")
        return told


async def apply(
    target: Target,
    document: Path | Mapping[str, Any],
    *,
    actor: Actor = CLI,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Apply a file, or a document that is already plain data, and say what was done.

    ``environ`` is where ``*_env`` fields look. Raises ConfigurationError naming file, line and field; then entries before
    that one may have been applied. Raises StoreUnavailable.
    """
    parsed, source = read(document)
    run = _Run(target, actor, source, os.environ if environ is None else environ)
    run.check(parsed)
    steps: tuple[tuple[str, Sequence[Any], Callable[..., Awaitable[Outcome]]], ...] = (
        ("endpoints", parsed.endpoints, run.endpoint),
        ("groups", parsed.groups, run.group),
        ("users", parsed.users, run.user),
        ("models", parsed.models, run.model),
        ("keys", parsed.keys, run.key),
        ("grants", parsed.grants, run.grant),
    )
    for kind, entries, step in steps:
        for index, entry in enumerate(entries):
            run.place = (kind, index)
            try:
                outcome = await step(entry)
            except GatewayError as error:
                place = (*run.place, error.param) if error.param and error.param in entry.__struct_fields__ else run.place
                raise source.error(place, error.message) from error
            except IntegrityError as error:
                raise source.error(run.place, "somebody else is changing the same at this moment; apply the file again") from error
            run.report.count(kind, outcome)
    return run.report


class _Run:
    """One application of one document."""

    def __init__(self, target: Target, actor: Actor, source: Source, environ: Mapping[str, str]) -> None:
        self.store = target.store
        self.sealer = target.sealer
        self.actor = actor
        self.source = source
        self.environ = environ
        self.report = Report()
        self.place: Place = ()

    def check(self, document: Document) -> None:
        """What can be known to be wrong without the database: bounds, prices, amounts, environment, entries given twice."""
        self._once("endpoints", [entry.name for entry in document.endpoints])
        self._once("groups", [entry.name for entry in document.groups])
        self._once("users", [entry.email.lower() for entry in document.users])
        self._once("models", [entry.alias for entry in document.models])
        self._once("keys", [(entry.user.lower(), entry.name) for entry in document.keys])
        self._once("grants", [entry.source_id for entry in document.grants])
        checks: tuple[tuple[str, Sequence[Any], Callable[[Any], object]], ...] = (
            ("endpoints", document.endpoints, lambda entry: (_endpoint_columns(entry), self._credential(entry))),
            ("groups", document.groups, lambda entry: models.check_name(entry.name, "name")),
            ("users", document.users, self._user_columns),
            ("models", document.models, lambda entry: (_model_columns(entry), self._prices(entry))),
            ("keys", document.keys, lambda entry: (self._key_columns(entry), self._secret(entry))),
            ("grants", document.grants, self._amount),
        )
        for kind, entries, check in checks:
            for index, entry in enumerate(entries):
                self.place = (kind, index)
                try:
                    check(entry)
                except GatewayError as error:
                    field = error.param if error.param in entry.__struct_fields__ else None
                    raise self.source.error((*self.place, field) if field else self.place, error.message) from error

    def _once(self, kind: str, names: Sequence[object]) -> None:
        first: dict[object, int] = {}
        for index, name in enumerate(names):
            if name in first:
                raise self.source.error((kind, index), f"the same as {kind}[{first[name]}]")
            first[name] = index

    def _error(self, field: str, message: str) -> ConfigurationError:
        return self.source.error((*self.place, field), message)

    def _given(self, entry: Any, field: str) -> Any:
        """The value of ``field``, or what the environment variable in ``{field}_env`` holds; UNSET without either."""
        value, variable = getattr(entry, field), getattr(entry, f"{field}_env")
        if variable is UNSET:
            return value
        if value is not UNSET:
            raise self._error(f"{field}_env", f"give {field} or {field}_env, not both")
        if not self.environ.get(variable):
            raise self._error(f"{field}_env", f"the environment variable {variable} is not set")
        return self.environ[variable]

    # Endpoints

    def _credential(self, entry: EndpointEntry) -> Secret | msgspec.UnsetType | None:
        given = self._given(entry, "api_key")
        return UNSET if given is UNSET else endpoints.check_credential(given)

    async def endpoint(self, entry: EndpointEntry) -> Outcome:
        columns = _endpoint_columns(entry)
        secret = self._credential(entry)

        async def write(tx: Tx) -> Outcome:
            row = await Endpoint.get_or_none(live_name=columns["name"], using_db=tx.orm)
            if row is None:
                sealed = self.sealer.seal(secret) if isinstance(secret, Secret) else None
                row = await endpoints.insert_endpoint(tx, self.actor, columns, sealed)
                await Changes.note(tx, "catalog", str(row.id))
                return "created"
            wished = dict(columns)
            if secret is not UNSET and not self._holds(row, secret):
                wished["sealed_credential"] = self.sealer.seal(secret) if isinstance(secret, Secret) else None
            if not await endpoints.update_endpoint(tx, self.actor, row, wished):
                return "unchanged"
            await Changes.note(tx, "catalog", str(row.id))
            return "updated"

        return await self.store.write(write)

    def _holds(self, row: Endpoint, secret: Secret | msgspec.UnsetType | None) -> bool:
        """Whether the row's credential is ``secret``."""
        if row.sealed_credential is None or not isinstance(secret, Secret):
            return row.sealed_credential is None and secret is None
        return self.sealer.unseal(bytes(row.sealed_credential)).reveal() == secret.reveal()

    # Groups

    async def group(self, entry: GroupEntry) -> Outcome:
        name = models.check_name(entry.name, "name")
        if name == EVERYONE:
            raise self._error("name", f"{EVERYONE} is there already and cannot be changed")

        async def write(tx: Tx) -> Outcome:
            row = await Group.get_or_none(live_name=name, using_db=tx.orm)
            if row is not None:
                difference = await change_row(tx, row, _sent(entry, "description"))
                if not difference:
                    return "unchanged"
                await self._audit_difference(tx, "groups.update", "group", str(row.id), difference)
                return "updated"
            description = None if isinstance(entry.description, msgspec.UnsetType) else entry.description
            group_id = ids.new_text()
            await groups.insert_group(tx, self.actor, group_id, name=name, description=description, source="native")
            await Changes.note(tx, "catalog", group_id)
            return "created"

        return await self.store.write(write)

    async def _groups(self, tx: Tx, names: Sequence[str], field: str = "groups") -> set[str]:
        """The ids of live groups. Raises ConfigurationError for a name that is none."""
        found: set[str] = set()
        for name in names:
            if name == EVERYONE:
                found.add(NIL)
                continue
            row = await Group.get_or_none(live_name=name, using_db=tx.orm)
            if row is None:
                raise self._error(field, f"there is no group {name!r}")
            found.add(str(row.id))
        return found

    # Users

    def _user_columns(self, entry: UserEntry) -> dict[str, Any]:
        columns: dict[str, Any] = {"email": users.check_email(entry.email)}
        if not isinstance(entry.username, msgspec.UnsetType):
            columns["username"] = users.check_text(entry.username, "username", 255)
        if not isinstance(entry.display_name, msgspec.UnsetType):
            columns["display_name"] = users.optional_text(entry.display_name, "display_name", 255)
        if not isinstance(entry.roles, msgspec.UnsetType):
            for role in entry.roles:
                if role not in ROLES:
                    raise self._error("roles", f"there is no role {role!r}; roles are {', '.join(ROLES)}")
            columns["roles"] = users.with_standard(entry.roles)
        return columns

    async def user(self, entry: UserEntry) -> Outcome:
        columns = self._user_columns(entry)

        async def write(tx: Tx) -> Outcome:
            row = await User.get_or_none(live_email=columns["email"].lower(), using_db=tx.orm)
            if row is None:
                user_id = ids.new_text()
                fresh = {"username": columns["email"], "roles": users.with_standard(()), "auth_source": "system", **columns}
                await users.refuse_taken(tx, fresh["username"], fresh["email"])
                await users.insert_user(tx, self.actor, user_id, fresh, initial_credits_nano=0)
                changed = True
            else:
                user_id = str(row.id)
                wished = {name: value for name, value in columns.items() if name != "email"}
                if wished.get("username", row.username) != row.username:
                    await users.refuse_taken(tx, wished["username"], "")
                    wished["live_username"] = wished["username"]
                if set(wished.get("roles", ())) == set(row.roles):
                    wished.pop("roles", None)
                difference = await change_row(tx, row, wished)
                difference.pop("live_username", None)
                changed = bool(difference)
                if changed:
                    await self._audit_difference(tx, "users.update", "user", user_id, difference)
            if not isinstance(entry.groups, msgspec.UnsetType):
                changed |= await self._set_memberships(tx, user_id, await self._groups(tx, entry.groups))
            if changed:
                await Changes.note(tx, "user", user_id)
            return "created" if row is None else "updated" if changed else "unchanged"

        return await self.store.write(write)

    async def _set_memberships(self, tx: Tx, user_id: str, wished: Collection[str]) -> bool:
        wanted = set(wished) - {NIL}
        rows = await UserGroup.filter(user_id=user_id).using_db(tx.orm).values_list("group_id", flat=True)
        held = {str(group_id) for group_id in rows}
        if wanted == held:
            return False
        if held - wanted:
            await UserGroup.filter(user_id=user_id, group_id__in=list(held - wanted)).using_db(tx.orm).delete()
        for group_id in sorted(wanted - held):
            await UserGroup.create(user_id=user_id, group_id=group_id, using_db=tx.orm)
        await audit(tx, self.actor, "users.groups", "user", user_id, {"groups": sorted(held)}, {"groups": sorted(wanted)})
        return True

    async def _account(self, tx: Tx, email: str) -> User:
        row = await User.get_or_none(live_email=email.strip().lower(), using_db=tx.orm)
        if row is None:
            raise self._error("user", f"there is no user {email!r}")
        return row

    # Models

    def _prices(self, entry: ModelEntry) -> list[catalog.TariffTerms] | None:
        if isinstance(entry.prices, msgspec.UnsetType):
            return None
        terms = []
        for index, price in enumerate(entry.prices):
            try:
                terms.append(_terms(price))
            except GatewayError as error:
                field = error.param
                place = (*self.place, "prices", index)
                raise self.source.error((*place, field) if field else place, error.message) from error
        catalog.plan_tariffs((), terms, field="prices")
        return terms

    async def model(self, entry: ModelEntry) -> Outcome:
        columns = _model_columns(entry)
        prices = self._prices(entry)

        async def write(tx: Tx) -> Outcome:
            endpoint = await Endpoint.get_or_none(live_name=entry.endpoint.strip(), using_db=tx.orm)
            if endpoint is None:
                raise self._error("endpoint", f"there is no endpoint {entry.endpoint!r}")
            row = await DeployedModel.get_or_none(live_alias=columns["alias"], using_db=tx.orm)
            created = row is None
            if row is None:
                name = columns.get("model_name", columns["alias"])
                row = await models.insert_model(
                    tx, self.actor, str(endpoint.id), {"model_name": name, "model_type": catalog.guess_model_type(name), **columns}
                )
                changed = True
            else:
                changed = await models.update_model(tx, self.actor, row, {**columns, "endpoint_id": endpoint.id})
            model_id = str(row.id)
            if prices is not None:
                changed |= await models.update_prices(tx, self.actor, model_id, prices, field="prices")
            if not isinstance(entry.groups, msgspec.UnsetType):
                changed |= await models.set_groups(tx, self.actor, model_id, await self._groups(tx, entry.groups))
            if changed:
                await Changes.note(tx, "catalog", model_id)
            return "created" if created else "updated" if changed else "unchanged"

        return await self.store.write(write)

    # Keys

    def _key_columns(self, entry: KeyEntry) -> dict[str, Any]:
        columns = _sent(entry, "description", "requests_per_second", "burst_size", "max_concurrency", "bodies", "always_stream_usage")
        for name in ("requests_per_second", "burst_size", "max_concurrency"):
            if columns.get(name) is not None and columns[name] <= 0:
                raise self._error(name, "must be above zero, or null for no limit")
        if isinstance(entry.expires_at, str):
            try:
                columns["expires_at"] = clock.from_rfc3339(entry.expires_at)
            except ValueError as error:
                raise self._error("expires_at", "must be a time such as 2027-01-31T00:00:00Z") from error
        elif entry.expires_at is None:
            columns["expires_at"] = None
        columns["purpose"] = entry.purpose
        return columns

    def _secret(self, entry: KeyEntry) -> str | None:
        given = self._given(entry, "secret")
        if given is UNSET:
            return None
        if len(given) < MIN_SECRET or not given.isascii() or not given.isprintable() or " " in given:
            raise self._error("secret", f"must be at least {MIN_SECRET} printable ASCII characters without spaces")
        return str(given)

    async def key(self, entry: KeyEntry) -> Outcome:
        name = models.check_name(entry.name, "name")
        columns = self._key_columns(entry)
        given = self._secret(entry)
        made, made_hash, made_hint = (given, hash_secret(given), hint_of(given)) if given else new_secret()

        async def write(tx: Tx) -> Outcome:
            owner = str((await self._account(tx, entry.user)).id)
            row = await ApiKey.get_or_none(user_id=owner, created_by=owner, live_name=name, hidden=False, using_db=tx.orm)
            wished = dict(columns)
            if row is None or given:
                wished |= {"secret_hash": made_hash, "secret_hint": made_hint}
            fresh = "secret_hash" in wished and (row is None or row.secret_hash != made_hash)
            if fresh and await ApiKey.filter(secret_hash=made_hash).using_db(tx.orm).exists():
                raise self._error("secret", "another key, live or deleted, has or had this secret")
            if row is None:
                now = clock.now_us()
                row = await ApiKey.create(
                    id=ids.new(),
                    name=name,
                    live_name=name,
                    user_id=owner,
                    created_by=owner,
                    created_at=now,
                    updated_at=now,
                    using_db=tx.orm,
                    **wished,
                )
                await audit(tx, self.actor, "api_keys.create", "api_key", str(row.id), None, {"name": name, "user_id": owner, **columns})
                await Changes.note(tx, "key", str(row.id))
                return "created"
            difference = await change_row(tx, row, wished)
            if not difference:
                return "unchanged"
            difference.pop("secret_hash", None)
            await self._audit_difference(tx, "api_keys.update", "api_key", str(row.id), difference)
            await Changes.note(tx, "key", str(row.id))
            return "updated"

        outcome = await self.store.write(write)
        if outcome == "created" and not given:
            self.report.new_keys.append(NewKey(user=entry.user, name=name, secret=made))
        return outcome

    # Grants

    def _amount(self, entry: GrantEntry) -> int:
        try:
            amount = money.parse_amount(str(entry.amount))
        except ValueError as error:
            raise self._error("amount", str(error)) from error
        if amount <= 0:
            raise self._error("amount", "must be above zero")
        return amount

    async def grant(self, entry: GrantEntry) -> Outcome:
        amount = self._amount(entry)

        async def write(tx: Tx) -> Outcome:
            account = str((await self._account(tx, entry.user)).id)
            earlier = await Transaction.get_or_none(source_id=entry.source_id, using_db=tx.orm)
            if earlier is not None:
                if str(earlier.account_id) != account or earlier.amount_nano != amount:
                    raise self._error(
                        "source_id", f"{entry.source_id!r} was already used, for another user or amount: a grant cannot be changed"
                    )
                return "unchanged"
            await transactions.grant(tx, account, amount, entry.source_id, entry.description)
            after = {
                "user_id": account,
                "amount": money.format_amount(amount),
                "source_id": entry.source_id,
                "description": entry.description,
            }
            await audit(tx, self.actor, "transactions.create", "transaction", entry.source_id, None, after)
            await Changes.note(tx, "balance", account)
            return "created"

        return await self.store.write(write)

    async def _audit_difference(
        self, tx: Tx, action: str, resource: str, resource_id: str, difference: Mapping[str, tuple[Any, Any]]
    ) -> None:
        before = {name: pair[0] for name, pair in difference.items()}
        after = {name: pair[1] for name, pair in difference.items()}
        await audit(tx, self.actor, action, resource, resource_id, before, after)


def _sent(entry: msgspec.Struct, *names: str) -> dict[str, Any]:
    """The fields among ``names`` that the file gives."""
    return {name: value for name in names if (value := getattr(entry, name)) is not UNSET}


def _endpoint_columns(entry: EndpointEntry) -> dict[str, Any]:
    names = (name for name in EndpointEntry.__struct_fields__ if name not in ("api_key", "api_key_env"))
    return endpoints.check_columns(_sent(entry, *names))


def _model_columns(entry: ModelEntry) -> dict[str, Any]:
    names = (name for name in ModelEntry.__struct_fields__ if name not in ("endpoint", "groups", "prices"))
    return models.check_columns(_sent(entry, *names))


def _terms(price: PriceEntry) -> catalog.TariffTerms:
    def per_million(field: str) -> int:
        return catalog.price_per_million(str(getattr(price, field)), field)

    def optional(field: str) -> int | None:
        return None if getattr(price, field) is None else per_million(field)

    return catalog.TariffTerms(
        name=price.purpose if isinstance(price.name, msgspec.UnsetType) else models.check_name(price.name, "name"),
        input_pico=per_million("input_per_million"),
        output_pico=per_million("output_per_million"),
        cache_read_pico=optional("cache_read_per_million"),
        cache_write_5m_pico=optional("cache_write_5m_per_million"),
        cache_write_1h_pico=optional("cache_write_1h_per_million"),
        per_request_pico=catalog.price_per_unit(str(price.per_request), "per_request"),
        api_key_purpose=price.purpose,
    )
