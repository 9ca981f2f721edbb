"""The keyring over real databases: what it finds, and how it follows changes."""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dwctl import clock, ids
from dwctl.accounts import NIL, Keyring, hash_secret, new_secret
from dwctl.accounts.principals import roles_of
from dwctl.config.schema import RateLimit, RateLimits
from dwctl.store import Changes, Store, StoreUnavailable, Tx
from dwctl.store.changes import ChangeRow
from dwctl.store.tables import ApiKey, User, UserGroup

pytestmark = pytest.mark.timeout(60)


async def add_user(store: Store, user_id: str | None = None, **columns: Any) -> str:
    user_id = user_id or ids.new_text()
    now = clock.now_us()

    async def write(tx: Tx) -> None:
        name = columns.pop("name", user_id)
        await User.create(
            using_db=tx.orm,
            id=user_id,
            username=name,
            email=f"{name}@x",
            live_username=name,
            live_email=f"{name}@x",
            created_at=now,
            updated_at=now,
            **columns,
        )

    await store.write(write)
    return user_id


async def add_key(store: Store, owner: str, holder: str | None = None, **columns: Any) -> tuple[str, str]:
    """The key's id and its secret."""
    secret, secret_hash, hint = new_secret()
    key_id = ids.new_text()

    async def write(tx: Tx) -> None:
        await ApiKey.create(
            using_db=tx.orm,
            id=key_id,
            name=key_id,
            live_name=key_id,
            secret_hash=secret_hash,
            secret_hint=hint,
            user_id=owner,
            created_by=holder or owner,
            created_at=clock.now_us(),
            updated_at=clock.now_us(),
            **columns,
        )

    await store.write(write)
    return key_id, secret


async def update(store: Store, sql: str, *args: Any) -> None:
    async def write(tx: Tx) -> None:
        assert await tx.execute(sql, args)

    await store.write(write)


def changed(area: str, entity_id: str | None) -> list[ChangeRow]:
    return [ChangeRow(1, area, entity_id)]


async def loaded(store: Store, rate_limits: RateLimits | None = None) -> Keyring:
    keyring = Keyring(rate_limits)
    await keyring.load(store)
    return keyring


def test_secrets() -> None:
    secret, secret_hash, hint = new_secret()
    assert len(secret) == 46
    assert secret.startswith("sk-")
    assert secret_hash == hash_secret(secret) == hashlib.sha256(secret.encode()).hexdigest()
    assert secret.startswith(hint)
    assert len(hint) < 10
    assert new_secret()[0] != secret
    hash_secret("any \udcff text")


async def test_load_and_find(store: Store) -> None:
    group = ids.new_text()
    owner = await add_user(store, roles=["StandardUser"], zero_data_retention=True)
    await store.write(lambda tx: UserGroup.create(using_db=tx.orm, user_id=owner, group_id=group))
    key_id, secret = await add_key(
        store,
        owner,
        purpose="realtime",
        requests_per_second=1.5,
        burst_size=4,
        max_concurrency=2,
        bodies="none",
        always_stream_usage=True,
        expires_at=123,
    )
    keyring = await loaded(store)
    principal = keyring.find(secret)
    assert principal is not None
    assert (principal.key_id, principal.account_id, principal.holder_id, principal.purpose) == (key_id, owner, owner, "realtime")
    assert principal.groups == {NIL, group}
    assert (principal.rps, principal.burst, principal.max_concurrency, principal.bodies) == (1.5, 4, 2, "none")
    assert (principal.always_stream_usage, principal.expires_us, principal.zero_data_retention) == (True, 123, True)
    assert (principal.is_admin, principal.roles) == (False, {"StandardUser"})
    assert keyring.find(secret + "x") is None
    assert keyring.find("") is None
    assert keyring.find("\udcff") is None
    assert len(keyring) == 1


async def test_owner_pays_and_gives_access_while_the_holder_acts(store: Store) -> None:
    group = ids.new_text()
    organization = await add_user(store, user_type="organization", roles=[])
    person = await add_user(store, roles=["PlatformManager"], is_admin=True)
    await store.write(lambda tx: UserGroup.create(using_db=tx.orm, user_id=organization, group_id=group))
    _, secret = await add_key(store, organization, person)
    principal = (await loaded(store)).find(secret)
    assert principal is not None
    assert (principal.account_id, principal.holder_id) == (organization, person)
    assert principal.groups == {NIL, group}
    assert principal.is_admin
    assert principal.roles == {"PlatformManager"}


async def test_the_system_account_is_not_in_everyone(store: Store) -> None:
    await add_user(store, NIL, name="system")
    _, secret = await add_key(store, NIL)
    limits = RateLimits(unverified=RateLimit(requests_per_second=1.0))
    principal = (await loaded(store, limits)).find(secret)
    assert principal is not None
    assert principal.groups == frozenset()
    assert principal.rps is None


async def test_default_rate_limits_by_tier(store: Store) -> None:
    limits = RateLimits(verified=RateLimit(requests_per_second=10.0, burst_size=20), unverified=RateLimit(requests_per_second=0.5))
    verified, unverified = await add_user(store, verified=True), await add_user(store)
    secrets = [
        (await add_key(store, verified))[1],
        (await add_key(store, unverified))[1],
        (await add_key(store, unverified, burst_size=9))[1],
        (await add_key(store, unverified, requests_per_second=3.0))[1],
    ]
    keyring = await loaded(store, limits)
    found = [keyring.find(secret) for secret in secrets]
    assert [(each.rps, each.burst) for each in found if each] == [(10.0, 20), (0.5, None), (0.5, 9), (3.0, None)]


async def test_changes_are_followed(store: Store) -> None:
    keyring = await loaded(store)
    owner = await add_user(store)
    key_id, secret = await add_key(store, owner)
    # In whichever order the two become known.
    await keyring.apply(store, changed("key", key_id))
    assert keyring.find(secret) is None
    await keyring.apply(store, changed("user", owner))
    assert keyring.find(secret) is not None

    await update(store, "UPDATE api_keys SET requests_per_second = 2.0 WHERE id = ?", key_id)
    await keyring.apply(store, changed("key", key_id))
    assert keyring.find(secret).rps == 2.0  # type: ignore[union-attr]

    fresh, fresh_hash, _ = new_secret()
    await update(store, "UPDATE api_keys SET secret_hash = ? WHERE id = ?", fresh_hash, key_id)
    await keyring.apply(store, changed("key", key_id))
    assert keyring.find(secret) is None
    assert keyring.find(fresh) is not None

    group = ids.new_text()
    await store.write(lambda tx: UserGroup.create(using_db=tx.orm, user_id=owner, group_id=group))
    await keyring.apply(store, changed("catalog", None))
    assert keyring.find(fresh).groups == {NIL}  # type: ignore[union-attr]
    await keyring.apply(store, changed("user", owner))
    assert keyring.find(fresh).groups == {NIL, group}  # type: ignore[union-attr]

    await update(store, "UPDATE api_keys SET deleted_at = 1, live_name = NULL WHERE id = ?", key_id)
    await keyring.apply(store, changed("key", key_id))
    assert keyring.find(fresh) is None
    assert len(keyring) == 0


@pytest.mark.parametrize("gone", ["owner", "holder"])
async def test_keys_die_with_their_owner_and_their_holder(store: Store, gone: str) -> None:
    owner, holder, other = await add_user(store, user_type="organization"), await add_user(store), await add_user(store)
    _, secret = await add_key(store, owner, holder)
    _, other_secret = await add_key(store, other)
    keyring = await loaded(store)
    assert keyring.find(secret) is not None
    deleted = owner if gone == "owner" else holder
    await update(store, "UPDATE users SET deleted_at = 1, live_username = NULL, live_email = NULL WHERE id = ?", deleted)
    await keyring.apply(store, changed("user", deleted))
    assert keyring.find(secret) is None
    assert keyring.find(other_secret) is not None
    assert keyring.person(deleted) is None
    assert (await loaded(store)).find(secret) is None


async def test_following_equals_loading(store: Store) -> None:
    """After any changes, a keyring that followed them knows what one that is loaded afresh knows."""
    users = [await add_user(store) for _ in range(4)]
    keys = [await add_key(store, owner, holder) for owner in users for holder in users]
    keyring = await loaded(store)
    for number, (key_id, _) in enumerate(keys):
        if number % 3 == 0:
            await update(store, "UPDATE api_keys SET deleted_at = 1, live_name = NULL WHERE id = ?", key_id)
        else:
            await update(store, "UPDATE api_keys SET burst_size = ? WHERE id = ?", number, key_id)
    await update(store, "UPDATE users SET deleted_at = 1, live_username = NULL, live_email = NULL WHERE id = ?", users[0])
    await update(store, "UPDATE users SET roles = ? WHERE id = ?", '["PlatformManager"]', users[1])
    rows = [ChangeRow(number, "key", key_id) for number, (key_id, _) in enumerate(keys)]
    rows += [ChangeRow(100 + number, "user", user_id) for number, user_id in enumerate(users)]
    await keyring.apply(store, rows)
    fresh = await loaded(store)
    assert [keyring.find(secret) for _, secret in keys] == [fresh.find(secret) for _, secret in keys]
    assert len(keyring) == len(fresh) > 0
    assert keyring.access == fresh.access
    assert sum(keyring.access.values()) == len(keyring)
    await keyring.apply(store, [ChangeRow(200, "key", None)])
    assert len(keyring) == len(fresh)


async def test_loading_again_leaves_no_gap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is known at every moment of a reload, which reads in pages."""
    monkeypatch.setattr("dwctl.accounts.principals._PAGE", 3)
    secrets = [(await add_key(store, await add_user(store)))[1] for _ in range(10)]
    keyring = await loaded(store)
    assert all(keyring.find(secret) for secret in secrets)
    reload = asyncio.create_task(keyring.apply(store, changed("user", None)))
    while not reload.done():
        assert all(keyring.find(secret) for secret in secrets)
        await asyncio.sleep(0)
    await reload
    assert all(keyring.find(secret) for secret in secrets)


@pytest.fixture
async def used(store: Store) -> AsyncIterator[tuple[Keyring, str]]:
    """A keyring that writes last uses, and a key's id."""
    key_id, _ = await add_key(store, await add_user(store))
    keyring = await loaded(store)
    keyring.start(store)
    yield keyring, key_id
    await keyring.close()


async def last_used(store: Store, key_id: str) -> int | None:
    [row] = await store.fetch("SELECT last_used_at FROM api_keys WHERE id = ?", (key_id,))
    at_us: int | None = row["last_used_at"]
    return at_us


async def test_last_use_only_moves_forward(store: Store, used: tuple[Keyring, str]) -> None:
    keyring, key_id = used
    before = await Changes(store).head()
    for at_us, seen in ((50, 50), (40, 50), (60, 60)):
        keyring.touch(key_id, at_us)
        await keyring.touches.flush()
        assert await last_used(store, key_id) == seen
    for number in range(1200):
        keyring.touch(f"{number:032x}", 1)
    keyring.touch(key_id, 70)
    await keyring.close()
    assert await last_used(store, key_id) == 70
    assert await Changes(store).head() == before


async def test_last_use_survives_an_outage(sqlite_url: str, data_dir: Path) -> None:
    store = await Store.open(sqlite_url, data_dir)
    key_id, _ = await add_key(store, await add_user(store))
    keyring = await loaded(store)
    keyring.start(store)
    keyring.touch(key_id, 50)
    other = sqlite3.connect(data_dir / "dwctl.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable):
        await keyring.touches.flush()
    other.execute("ROLLBACK")
    other.close()
    keyring.touch(key_id, 60)
    await keyring.touches.flush()
    assert await last_used(store, key_id) == 60
    await keyring.close()
    await store.close()


async def test_last_sign_in_is_written_every_five_minutes(store: Store, used: tuple[Keyring, str]) -> None:
    keyring, _ = used
    user_id = await add_user(store)
    start = clock.now_us()
    for at_us, seen in ((start, start), (start + 299_000_000, start), (start + 300_000_000, start + 300_000_000)):
        keyring.touches.login(user_id, at_us)
        await keyring.touches.flush()
        [row] = await store.fetch("SELECT last_login_at FROM users WHERE id = ?", (user_id,))
        assert row["last_login_at"] == seen


def test_roles_of() -> None:
    assert roles_of('["A","B"]') == roles_of(["A", "B"]) == ["A", "B"]
