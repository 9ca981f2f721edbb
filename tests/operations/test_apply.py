"""Applying a file to a real database: what it writes, that a second time changes nothing, and how it refuses."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from dwctl import ids
from dwctl.accounts import SYSTEM, hash_secret
from dwctl.config import Config
from dwctl.errors import ConfigurationError
from dwctl.ledger import transactions
from dwctl.operations.apply import Report, apply
from dwctl.operations.sign_in import reset_password
from dwctl.operations.users import insert_user
from dwctl.sealing import Sealer, load_sealer
from dwctl.store import Store
from dwctl.store.tables import ApiKey, AuditRow, Change, DeployedModel, Endpoint, Group, ModelGroup, Tariff, User, UserGroup
from tests.administration import ADMIN_EMAIL, ADMIN_PASSWORD, configuration, serving

NIL = "00000000-0000-0000-0000-000000000000"
PROVIDER_KEY = "sk-provider-canary"
SECRET = "sk-demo-0000000000000000"
FULL: dict[str, Any] = {
    "endpoints": [
        {
            "name": "sim",
            "url": "http://127.0.0.1:9/v1",
            "api_key": PROVIDER_KEY,
            "max_concurrency": 8,
            "first_byte_timeout": 5,
            "forward_headers": ["X-Team"],
        }
    ],
    "groups": [{"name": "staff", "description": "who works here"}],
    "users": [{"email": "Ada@Example.com", "display_name": "Ada", "groups": ["staff"], "roles": ["PlatformManager"]}],
    "models": [
        {
            "alias": "sim-chat",
            "endpoint": "sim",
            "model_name": "sim-1",
            "groups": ["Everyone", "staff"],
            "capacity": 4,
            "metadata": {"provider": "sim"},
            "prices": [{"input_per_million": "2.50", "output_per_million": "10"}, {"purpose": "batch", "input_per_million": "1.25"}],
        },
        {"alias": "sim-embed", "endpoint": "sim"},
    ],
    "keys": [{"user": "ada@example.com", "name": "demo", "secret": SECRET, "requests_per_second": 2.5}],
    "grants": [{"user": "ada@example.com", "amount": "12.5", "source_id": "demo-1", "description": "to begin with"}],
}


@dataclass
class Target:
    store: Store
    sealer: Sealer
    config: Config = field(default_factory=Config)


@pytest.fixture
def target(store: Store, data_dir: Path) -> Target:
    return Target(store, load_sealer(data_dir, "a secret key for tests only"))


def _with(**changes: Any) -> dict[str, Any]:
    return {**FULL, **changes}


async def test_everything_is_set_up(target: Target) -> None:
    report = await apply(target, FULL)
    assert report.created == {"endpoints": 1, "groups": 1, "users": 1, "models": 2, "keys": 1, "grants": 1}
    assert (report.updated, report.unchanged, report.new_keys) == ({}, {}, [])
    [endpoint] = await Endpoint.all()
    assert (endpoint.name, endpoint.max_concurrency, endpoint.first_byte_timeout, endpoint.forward_headers) == ("sim", 8, 5.0, ["x-team"])
    assert target.sealer.unseal(bytes(endpoint.sealed_credential)).reveal() == PROVIDER_KEY
    [ada] = await User.exclude(id=NIL)
    assert (ada.email, ada.live_email, ada.username, ada.display_name) == ("Ada@Example.com", "ada@example.com", "Ada@Example.com", "Ada")
    assert ada.roles == ["StandardUser", "PlatformManager"]
    [staff] = await Group.exclude(id=NIL)
    assert [row.user_id for row in await UserGroup.filter(group_id=staff.id)] == [ada.id]
    chat, embed = await DeployedModel.all().order_by("alias")
    assert (chat.alias, chat.model_name, chat.model_type, chat.capacity) == ("sim-chat", "sim-1", "CHAT", 4)
    assert (embed.model_name, embed.model_type) == ("sim-embed", "EMBEDDINGS")
    assert {str(row.group_id) for row in await ModelGroup.filter(model_id=chat.id)} == {NIL, str(staff.id)}
    assert not await ModelGroup.filter(model_id=embed.id).exists()
    batch, realtime = await Tariff.filter(model_id=chat.id).order_by("api_key_purpose")
    assert (batch.input_pico, batch.output_pico, batch.valid_until) == (1_250_000, 0, None)
    assert (realtime.input_pico, realtime.output_pico, realtime.valid_until) == (2_500_000, 10_000_000, None)
    [key] = await ApiKey.all()
    assert (key.secret_hash, key.user_id, key.created_by, key.requests_per_second) == (hash_secret(SECRET), ada.id, ada.id, 2.5)
    assert await transactions.balance_of(target.store, str(ada.id)) == 12_500_000_000
    assert {change.area for change in await Change.all()} == {"catalog", "user", "key", "balance"}


async def _state(target: Target) -> dict[str, Any]:
    tables = ("inference_endpoints", "groups", "users", "user_groups", "deployed_models", "deployment_groups", "model_tariffs", "api_keys")
    tables += ("credits_transactions", "account_balances", "audit_log", "change_log")
    return {table: sorted(map(repr, await target.store.fetch(f"SELECT * FROM {table}"))) for table in tables}


async def test_a_second_time_changes_nothing_and_says_so(target: Target) -> None:
    await apply(target, FULL)
    before = await _state(target)
    report = await apply(target, FULL)
    assert not report.changed
    assert report.unchanged == {"endpoints": 1, "groups": 1, "users": 1, "models": 2, "keys": 1, "grants": 1}
    assert report.lines()[-1] == "Nothing had to be changed."
    assert await _state(target) == before


async def test_metadata_of_any_kind_is_the_same_the_second_time(target: Target) -> None:
    numbers = {"large": 1e300, "nested": [{"larger": -1.5e23}], "whole": 1.0, "small": 1e-9, "zero": -0.0, "integer": 10**30}
    document = _with(models=[{"alias": "m", "endpoint": "sim", "metadata": {**numbers, "texts": ["é", "1e300"], "nothing": None}}])
    await apply(target, document)
    before = await _state(target)
    assert not (await apply(target, document)).changed
    assert await _state(target) == before
    assert (await DeployedModel.get(alias="m")).metadata["large"] == 10**300


async def test_what_differs_is_changed_and_what_is_not_mentioned_stays(target: Target) -> None:
    await apply(target, FULL)
    [old_price] = await Tariff.filter(api_key_purpose="realtime")
    report = await apply(
        target,
        {
            "endpoints": [{"name": "sim", "url": "http://127.0.0.1:10/v1"}],
            "groups": [{"name": "staff", "description": None}],
            "users": [{"email": "ada@example.com", "display_name": None, "groups": []}],
            "models": [
                {
                    "alias": "sim-chat",
                    "endpoint": "sim",
                    "capacity": None,
                    "groups": ["Everyone"],
                    "prices": [{"input_per_million": 3}, {"purpose": "batch", "input_per_million": 1.25}],
                }
            ],
            "keys": [{"user": "ada@example.com", "name": "demo", "secret": "sk-demo-1111111111111111"}],
        },
    )
    assert report.updated == {"endpoints": 1, "groups": 1, "users": 1, "models": 1, "keys": 1}
    [endpoint] = await Endpoint.all()
    assert (endpoint.url, endpoint.max_concurrency, endpoint.revision) == ("http://127.0.0.1:10/v1", 8, 2)
    assert endpoint.sealed_credential is not None
    [ada] = await User.exclude(id=NIL)
    assert (ada.display_name, ada.roles) == (None, ["StandardUser", "PlatformManager"])
    assert not await UserGroup.all().exists()
    chat = await DeployedModel.get(alias="sim-chat")
    assert (chat.capacity, chat.model_name, chat.metadata) == (None, "sim-1", {"provider": "sim"})
    assert [str(row.group_id) for row in await ModelGroup.filter(model_id=chat.id)] == [NIL]
    prices = {row.input_pico: row.valid_until for row in await Tariff.filter(model_id=chat.id)}
    assert prices[3_000_000] is None
    assert prices[1_250_000] is None
    assert prices[2_500_000] is not None
    closed = await Tariff.get(id=old_price.id)
    begun = await Tariff.get(input_pico=3_000_000)
    assert closed.valid_until == begun.valid_from
    [key] = await ApiKey.all()
    assert key.secret_hash == hash_secret("sk-demo-1111111111111111")
    assert key.requests_per_second == 2.5


async def test_the_header_of_a_key_follows_the_dialect_of_its_endpoint(target: Target) -> None:
    async def applied(**fields: str) -> tuple[str, str, str]:
        document = {"endpoints": [{"name": "sim", "url": "http://127.0.0.1:9", **fields}]}
        await apply(target, document)
        assert not (await apply(target, document)).changed
        row = await Endpoint.get(live_name="sim")
        return row.dialect, row.auth_header_name, row.auth_header_prefix

    assert await applied(dialect="anthropic") == ("anthropic", "x-api-key", "")
    assert await applied() == ("anthropic", "x-api-key", "")
    assert await applied(dialect="ollama") == ("ollama", "Authorization", "Bearer ")
    assert await applied(dialect="anthropic", auth_header_name="x-key", auth_header_prefix="") == ("anthropic", "x-key", "")
    assert await applied(dialect="openai-responses") == ("openai-responses", "x-key", "")


async def test_a_key_without_a_secret_is_made_once_and_told_once(target: Target) -> None:
    document = _with(keys=[{"user": "ada@example.com", "name": "fresh"}])
    report = await apply(target, document)
    [told] = report.new_keys
    assert (told.user, told.name, len(told.secret)) == ("ada@example.com", "fresh", 46)
    assert not any(told.secret in line for line in report.lines())
    [key] = await ApiKey.all()
    assert key.secret_hash == hash_secret(told.secret)
    again = await apply(target, document)
    assert (again.new_keys, again.unchanged["keys"]) == ([], 1)


async def test_no_secret_is_made_and_then_not_told(target: Target) -> None:
    keys = [{"user": "ada@example.com", "name": "fresh"}, {"user": "nobody@example.com", "name": "fresh"}]
    with pytest.raises(ConfigurationError, match=r"keys\[1\].user: there is no user 'nobody@example.com'"):
        await apply(target, _with(keys=keys))
    assert not await ApiKey.all().exists()


async def test_secrets_come_from_the_environment(target: Target) -> None:
    document = _with(
        endpoints=[{"name": "sim", "url": "http://127.0.0.1:9/v1", "api_key_env": "PROVIDER"}],
        keys=[{"user": "ada@example.com", "name": "demo", "secret_env": "DEMO"}],
    )
    with pytest.raises(ConfigurationError, match=r"endpoints\[0\].api_key_env: the environment variable PROVIDER is not set"):
        await apply(target, document, environ={"DEMO": SECRET})
    assert not await Endpoint.all().exists()
    await apply(target, document, environ={"DEMO": SECRET, "PROVIDER": PROVIDER_KEY})
    [endpoint] = await Endpoint.all()
    assert target.sealer.unseal(bytes(endpoint.sealed_credential)).reveal() == PROVIDER_KEY
    assert not (await apply(target, document, environ={"DEMO": SECRET, "PROVIDER": PROVIDER_KEY})).changed
    changed = await apply(target, document, environ={"DEMO": SECRET, "PROVIDER": "sk-another"})
    assert changed.updated == {"endpoints": 1}


async def test_no_secret_is_in_the_database_or_the_audit_trail(target: Target) -> None:
    await apply(target, FULL)
    for table in ("inference_endpoints", "api_keys", "audit_log", "change_log"):
        text = repr(await target.store.fetch(f"SELECT * FROM {table}"))
        assert PROVIDER_KEY not in text
        assert SECRET not in text
    actions = [row.action for row in await AuditRow.all().order_by("seq")]
    assert actions == [
        "endpoints.create",
        "groups.create",
        "users.create",
        "users.groups",
        "models.create",
        "tariffs.set",
        "models.groups",
        "models.create",
        "transactions.create",
        "api_keys.create",
    ]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"endpoints": [{"name": "e", "url": "ftp://h"}]}, "endpoints[0].url: url: the URL must start with http:// or https://"),
    (
        {"endpoints": [{"name": "e", "url": "http://h", "total_timeout": 0}]},
        "endpoints[0].total_timeout: total_timeout must be above 0",
    ),
    ({"endpoints": [{"name": "e", "url": "http://h", "forward_headers": ["Cookie"]}]}, "cookie is never forwarded"),
    (
        {"endpoints": [{"name": "e", "url": "http://h", "dialect": "claude"}]},
        "endpoints[0].dialect: dialect must be one of openai-chat, openai-responses, anthropic, ollama",
    ),
    ({"groups": [{"name": "a"}, {"name": "a"}]}, "groups[1]: the same as groups[0]"),
    ({"groups": [{"name": "Everyone"}]}, "groups[0].name: Everyone is there already"),
    ({"users": [{"email": "nobody"}]}, "users[0].email: email is not an e-mail address"),
    ({"users": [{"email": "a@b", "roles": ["Boss"]}]}, "users[0].roles: there is no role 'Boss'"),
    ({"users": [{"email": "a@b", "groups": ["x"]}]}, "users[0].groups: there is no group 'x'"),
    ({"models": [{"alias": "m", "endpoint": "x"}]}, "models[0].endpoint: there is no endpoint 'x'"),
    ({"models": [{"alias": " ", "endpoint": "x"}]}, "models[0].alias: alias must not be empty"),
    ({"models": [{"alias": "m", "endpoint": "x", "capacity": 0}]}, "models[0].capacity: capacity must be a whole number from 1"),
    (
        {"models": [{"alias": "m", "endpoint": "x", "metadata": {"context_window": "8k"}}]},
        "models[0].metadata.context_window: metadata.context_window: Expected `int",
    ),
    *(
        (
            {"models": [{"alias": "m", "endpoint": "x", "metadata": {"a": [{"b": number}]}}]},
            f"models[0].metadata: metadata: {name} is no number that can be kept: give a finite one, or null",
        )
        for number, name in ((float("nan"), "NaN"), (float("-inf"), "-Infinity"))
    ),
    (
        {"models": [{"alias": "m", "endpoint": "x", "prices": [{"input_per_million": "0.0000001"}]}]},
        "models[0].prices[0].input_per_million: input_per_million: 0.0000001 credits per million tokens is finer than one pico-credit",
    ),
    ({"models": [{"alias": "m", "endpoint": "x", "prices": [{}, {}]}]}, "models[0]: prices[1] is for the same purpose"),
    ({"models": [{"alias": "m", "endpoint": "x", "metadata": {"a": ["b\0"]}}]}, "models[0].metadata.a[0]: contains a character"),
    ({"models": [{"alias": "m", "endpoint": "x", "metadata": {"\ud800": 1}}]}, "models[0].metadata: contains a character"),
    ({"keys": [{"user": "a@b", "name": "k"}]}, "keys[0].user: there is no user 'a@b'"),
    ({"keys": [{"user": "a@b", "name": "k", "secret": "short"}]}, "keys[0].secret: must be at least 16 printable"),
    ({"keys": [{"user": "a@b", "name": "k", "expires_at": "soon"}]}, "keys[0].expires_at: expires_at must be a time such as"),
    (
        {"keys": [{"user": "a@b", "name": "k", "requests_per_second": float("nan")}]},
        "keys[0].requests_per_second: requests_per_second must be",
    ),
    ({"keys": [{"user": "a@b", "name": "k", "burst_size": 2**31}]}, "keys[0].burst_size: burst_size must be"),
    ({"grants": [{"user": "a@b", "amount": "-1", "source_id": "s"}]}, "grants[0].amount: must be above zero"),
    ({"grants": [{"user": "a@b", "amount": "0.0000000001", "source_id": "s"}]}, "grants[0].amount: 0.0000000001 is finer than"),
]


async def test_a_mistake_is_named_with_its_field(target: Target) -> None:
    for document, message in MISTAKES:
        with pytest.raises(ConfigurationError) as caught:
            await apply(target, document)
        assert message in str(caught.value)
    assert not await ApiKey.all().exists()


async def test_a_mistake_anywhere_is_found_before_anything_is_written(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "setup.yaml"
    path.write_text(yaml.safe_dump(_with(grants=[{"user": "ada@example.com", "amount": "0", "source_id": "x"}]), sort_keys=False))
    line = path.read_text().splitlines().index("  amount: '0'") + 1
    with pytest.raises(ConfigurationError) as caught:
        await apply(target, path)
    assert str(caught.value) == f"{path}:{line}: grants[0].amount: must be above zero"
    assert not await AuditRow.all().exists()


async def test_a_grant_cannot_be_changed(target: Target) -> None:
    await apply(target, FULL)
    with pytest.raises(ConfigurationError, match=r"grants\[0\].source_id: 'demo-1' was already used"):
        await apply(target, _with(grants=[{"user": "ada@example.com", "amount": "13", "source_id": "demo-1"}]))
    [ada] = await User.exclude(id=NIL)
    assert await transactions.balance_of(target.store, str(ada.id)) == 12_500_000_000


async def test_a_secret_of_another_key_is_refused(target: Target) -> None:
    await apply(target, FULL)
    with pytest.raises(ConfigurationError, match=r"keys\[0\].secret: another key"):
        await apply(target, _with(keys=[{"user": "ada@example.com", "name": "other", "secret": SECRET}]))


async def test_two_at_the_same_time_end_as_one_would(target: Target) -> None:
    documents: list[Mapping[str, Any]] = [FULL, FULL, FULL]
    results = await asyncio.gather(*(apply(target, document) for document in documents), return_exceptions=True)
    reports = [result for result in results if isinstance(result, Report)]
    assert reports, results
    # Whoever lost a race says so, and is told the same story when it tries again.
    for error in (result for result in results if not isinstance(result, Report)):
        assert isinstance(error, ConfigurationError), error
    assert not (await apply(target, FULL)).changed
    [ada] = await User.exclude(id=NIL)
    assert await transactions.balance_of(target.store, str(ada.id)) == 12_500_000_000
    assert await DeployedModel.filter(deleted_at=None).count() == 2
    assert await Tariff.filter(valid_until=None).count() == 2


async def test_a_running_server_picks_it_up(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        beside = await Store.open(sqlite_url, data_dir)
        try:
            await apply(Target(beside, server.services.sealer), FULL)
        finally:
            await beside.close()
        await server.services.changes.applied(await server.services.changes.head())
        model = server.services.snapshot().models["sim-chat"]
        assert model.candidates[0].endpoint.auth() == {"Authorization": f"Bearer {PROVIDER_KEY}"}
        principal = server.services.keyring.find(SECRET)
        assert principal is not None
        assert (principal.rps, NIL in principal.groups, model.groups & principal.groups != set()) == (2.5, True, True)
        assert not (await apply(server.services, FULL)).changed


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ("email: svc@example.com\n  username: system", "3: users[0].username: This username is already taken"),
        ("email: System@Internal", "2: users[0].email: An account with this email address already exists"),
    ],
)
async def test_the_names_of_the_system_are_taken_before_the_first_start_and_after(
    target: Target, tmp_path: Path, account: str, said: str
) -> None:
    path = tmp_path / "setup.yaml"
    path.write_text(f"users:\n- {account}\n")
    for _ in range(2):
        with pytest.raises(ConfigurationError) as caught:
            await apply(target, path)
        assert str(caught.value) == f"{path}:{said}"
        await apply(target, {})
    [system] = await User.all()
    assert (str(system.id), system.live_username, system.live_email, system.roles) == (NIL, "system", "system@internal", [])


@pytest.mark.parametrize(
    ("username", "email", "said"),
    [
        ("system", "svc@example.com", "the username system, which is needed here, belongs to the account svc@example.com: "),
        ("svc", "system@internal", "the e-mail address system@internal, which is needed here, belongs to the account system@internal: "),
        (ADMIN_EMAIL, "ops@example.com", f"the username {ADMIN_EMAIL}, which is needed here, belongs to the account ops@example.com: give"),
    ],
)
async def test_an_account_in_the_way_of_the_first_start_is_named(
    database_url: str, data_dir: Path, username: str, email: str, said: str
) -> None:
    store = await Store.open(database_url, data_dir)
    columns = {"username": username, "email": email, "roles": ["StandardUser"], "auth_source": "system"}
    await store.write(lambda tx: insert_user(tx, SYSTEM, ids.new_text(), columns, initial_credits_nano=0))
    await store.close()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"^{said}"):
            async with serving(database_url, configuration(data_dir, database_url)):
                pass


@pytest.mark.parametrize("has_password", [False, True])
async def test_an_administrator_whom_the_file_names_first_becomes_one_at_the_first_start(
    database_url: str, data_dir: Path, has_password: bool
) -> None:
    store = await Store.open(database_url, data_dir)
    await apply(Target(store, load_sealer(data_dir, "a secret key for tests only")), {"users": [{"email": ADMIN_EMAIL}]})
    config = configuration(data_dir, database_url)
    password = await reset_password(store, ADMIN_EMAIL, config) if has_password else ADMIN_PASSWORD
    await store.close()
    async with serving(database_url, config) as server:
        me = (await server.sign_in(ADMIN_EMAIL, password)).body["user"]
        assert (me["is_admin"], me["roles"]) == (True, ["StandardUser", "PlatformManager"])
        [entry] = await server.audit("users.update")
        assert entry["after"] == {"is_admin": True, "roles": ["StandardUser", "PlatformManager"]}
        # There is one now: nobody else becomes one by being named.
        await server.password_user("eve@example.com", "a password of eve's")
    async with serving(database_url, configuration(data_dir, database_url, admin_email="eve@example.com")) as server:
        assert (await server.sign_in("eve@example.com", "a password of eve's")).body["user"]["is_admin"] is False


async def test_roles_are_given_to_nobody_who_only_says_whose_address_it_is(target: Target) -> None:
    email = "boss@example.com"
    await apply(target, {"users": [{"email": email, "display_name": "B"}], "keys": [{"user": email, "name": "own"}]})
    await target.store.write(lambda tx: tx.execute("UPDATE users SET auth_source = 'native' WHERE email = ?", [email]))
    assert (await apply(target, {"users": [{"email": email, "roles": ["StandardUser"]}]})).unchanged == {"users": 1}
    with pytest.raises(ConfigurationError, match=r"users\[0\]\.roles: this account was registered by whoever has its password"):
        await apply(target, {"users": [{"email": email, "roles": ["PlatformManager"]}]})
    insiders: dict[str, Any] = {"groups": [{"name": "Insiders"}], "users": [{"email": email, "groups": ["Insiders"]}]}
    paid: dict[str, Any] = {"grants": [{"user": email, "amount": 5, "source_id": "five"}]}
    held: dict[str, Any] = {"keys": [{"user": email, "name": "k"}]}
    faster: dict[str, Any] = {"keys": [{"user": email, "name": "own", "requests_per_second": 5000}]}
    for document, place in ((insiders, "users[0].groups"), (paid, "grants[0].user"), (held, "keys[0].user"), (faster, "keys[0].user")):
        with pytest.raises(ConfigurationError, match=re.escape(f"{place}: this account was registered by whoever has its password")):
            await apply(target, document)
    await target.store.write(lambda tx: tx.execute("UPDATE users SET verified = TRUE WHERE email = ?", [email]))
    for document in (insiders, paid, held, faster):
        assert (await apply(target, document)).changed


async def test_a_key_keeps_the_purpose_that_the_file_does_not_say(target: Target) -> None:
    await apply(target, {"users": [{"email": "ada@x.test"}], "keys": [{"user": "ada@x.test", "name": "adm", "purpose": "platform"}]})
    assert (await apply(target, {"keys": [{"user": "ada@x.test", "name": "adm", "description": "d"}]})).updated == {"keys": 1}
    await apply(target, {"keys": [{"user": "ada@x.test", "name": "plain"}]})
    purposes = dict(await ApiKey.filter(hidden=False).values_list("name", "purpose"))
    assert purposes == {"adm": "platform", "plain": "realtime"}
