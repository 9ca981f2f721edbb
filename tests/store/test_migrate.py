"""Migrations: only what is pending, all or nothing, after a copy, and never a schema from the future."""

import contextlib
import importlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector

import dwctl.store.migrations as shipped
from dwctl.errors import ConfigurationError
from dwctl.ledger.rows import apply
from dwctl.operations import request_log
from dwctl.operations.request_log import RequestFilter
from dwctl.store import SchemaTooNew, Store, Tx, migrate, sqlite
from tests.conftest import PostgresServer
from tests.ledger.making import STARTED, make_record

SHIPPED = migrate.known()
NEXT = """
from tortoise import fields, migrations
from tortoise.migrations import operations as ops

class Migration(migrations.Migration):
    dependencies = [("models", "{newest}")]
    initial = False
    operations = [
        ops.AddField(model_name="Property", name="note", field=fields.TextField(null=True)),
        {further}
    ]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped migrations in a package of their own, to which a test may add."""
    name = f"probe_{tmp_path.name.replace('-', '_')}"
    directory = tmp_path / "packages" / name
    shutil.copytree(next(iter(shipped.__path__)), directory, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(directory.parent)
    importlib.invalidate_caches()
    module = importlib.import_module(name)
    monkeypatch.setattr(migrate, "migrations", module)
    monkeypatch.setitem(migrate.MODELS[migrate.APP], "migrations", name)
    return directory


def add(package: Path, further: str = "") -> None:
    (package / "0900_note.py").write_text(NEXT.format(newest=SHIPPED[-1], further=further))
    importlib.invalidate_caches()


async def names(store: Store) -> list[str]:
    return [row["name"] for row in await store.fetch("SELECT name FROM tortoise_migrations ORDER BY name")]


async def test_opening_again_migrates_nothing(store: Store, database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise AssertionError("nothing is pending")

    monkeypatch.setattr(migrate, "_run", fail)
    again = await Store.open(database_url, data_dir)
    assert await names(again) == migrate.known() == SHIPPED
    await again.close()
    assert not list(data_dir.glob("*.before-*"))


async def test_a_newer_schema_is_refused(store: Store, database_url: str, data_dir: Path) -> None:
    await store.write(
        lambda tx: tx.execute(
            "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('models', '0999_from_the_future', CURRENT_TIMESTAMP)"
        )
    )
    with pytest.raises(SchemaTooNew, match="0999_from_the_future"):
        await Store.open(database_url, data_dir)


async def test_a_pending_migration_is_applied_after_a_copy(
    database_url: str, data_dir: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(database_url, data_dir)
    await store.write(lambda tx: tx.execute("INSERT INTO properties (name, value) VALUES ('kept', 'yes')"))
    await store.close()
    add(package)
    store = await Store.open(database_url, data_dir)
    assert await names(store) == [*SHIPPED, "0900_note"]
    assert await store.fetch("SELECT name, value, note FROM properties") == [{"name": "kept", "value": "yes", "note": None}]
    await store.close()
    copies = list(data_dir.glob("*.before-*"))
    if store.dialect == "sqlite":
        assert [copy.name for copy in copies] == ["dwctl.db.before-0900_note"]
        assert copies[0].stat().st_mode & 0o777 == 0o600
        with contextlib.closing(sqlite3.connect(copies[0])) as connection:
            assert connection.execute("SELECT * FROM properties").fetchall() == [("kept", "yes")]
    else:
        assert not copies


async def before_tags(tx: Tx) -> None:
    """The schema as it was."""
    await tx.execute("DROP TABLE request_tags")
    await tx.execute("ALTER TABLE requests DROP COLUMN tags")
    await tx.execute("DELETE FROM tortoise_migrations WHERE name = '0006_tags'")


async def test_requests_from_before_there_were_tags_have_none_and_new_ones_are_found_by_theirs(database_url: str, data_dir: Path) -> None:
    store = await Store.open(database_url, data_dir)
    old, new = make_record(), make_record(tags=("beta", "team=search"))
    await store.write(lambda tx: apply(tx, [old], STARTED))
    await store.write(before_tags)
    await store.close()
    store = await Store.open(database_url, data_dir)
    await store.write(lambda tx: apply(tx, [new], STARTED))
    assert await store.fetch("SELECT id, tags FROM requests ORDER BY seq") == [
        {"id": old.id, "tags": None},
        {"id": new.id, "tags": '["beta","team=search"]'},
    ]
    assert [row["id"] for row in await request_log.rows(store, RequestFilter(tag="team=search"), limit=5)] == [new.id]
    await store.close()


async def test_endpoints_from_before_there_were_dialects_speak_chat_completions(database_url: str, data_dir: Path) -> None:
    store = await Store.open(database_url, data_dir)
    columns = "id, name, url, auth_header_name, auth_header_prefix, forward_headers, created_at, updated_at, revision"

    async def before(tx: Tx) -> None:
        await before_tags(tx)
        await tx.execute("ALTER TABLE inference_endpoints DROP COLUMN dialect")
        await tx.execute("DELETE FROM tortoise_migrations WHERE name = '0005_dialects'")
        await tx.execute(
            f"INSERT INTO inference_endpoints ({columns}) VALUES (?, 'old', 'https://h/v1', 'Authorization', 'Bearer ', '[]', 1, 1, 1)",
            ["11111111-1111-4111-8111-111111111111"],
        )

    await store.write(before)
    await store.close()
    store = await Store.open(database_url, data_dir)
    assert await store.fetch("SELECT name, dialect FROM inference_endpoints") == [{"name": "old", "dialect": "openai-chat"}]
    await store.close()


async def test_a_migration_that_fails_leaves_the_old_schema(database_url: str, data_dir: Path, package: Path) -> None:
    add(package, "ops.RunSQL('SELECT * FROM no_such_table'),")
    with pytest.raises(Exception, match="no_such_table"):
        await Store.open(database_url, data_dir)
    (package / "0900_note.py").unlink()
    shutil.rmtree(package / "__pycache__", ignore_errors=True)
    importlib.invalidate_caches()
    store = await Store.open(database_url, data_dir)
    assert await names(store) == SHIPPED
    with pytest.raises(Exception, match="note"):
        await store.fetch("SELECT note FROM properties")
    await store.close()


async def test_without_room_for_the_copy_nothing_happens(
    sqlite_url: str, data_dir: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(package)
    usage = shutil.disk_usage(data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigurationError, match="--no-copy"):
        await Store.open(sqlite_url, data_dir)
    store = await Store.open(sqlite_url, data_dir, copy=False)
    assert await names(store) == [*SHIPPED, "0900_note"]
    await store.close()


async def test_a_file_that_is_not_dwctls_is_refused(data_dir: Path) -> None:
    with contextlib.closing(sqlite3.connect(data_dir / "dwctl.db")) as connection:
        connection.execute("CREATE TABLE requests (a INTEGER)")
    with pytest.raises(ConfigurationError, match=r"tables that are not dwctl's .*requests.* one of its own"):
        await Store.open(None, data_dir)


async def test_a_role_or_a_database_of_postgresql_that_will_not_do_is_named(postgres_server: PostgresServer, data_dir: Path) -> None:
    postgres_server.execute("CREATE ROLE app LOGIN; CREATE TABLE requests (a INTEGER)")
    theirs = postgres_server.url().replace("postgres@", "app@")
    with pytest.raises(ConfigurationError, match=r"permission denied for schema public.* GRANT USAGE, CREATE ON SCHEMA public"):
        await Store.open(theirs, data_dir)
    with pytest.raises(ConfigurationError, match=r"tables that are not dwctl's .*requests"):
        await Store.open(postgres_server.url(), data_dir)
    postgres_server.execute("DROP TABLE requests")
    await (await Store.open(postgres_server.url(), data_dir)).close()
    with pytest.raises(ConfigurationError, match=r"permission denied for table tortoise_migrations.*REASSIGN OWNED"):
        await Store.open(theirs, data_dir)


def test_several_processes_may_start_at_once(postgres_server: PostgresServer, tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from dwctl.store import Store

async def main():
    store = await Store.open(sys.argv[1] or None, Path(sys.argv[2]))
    print((await store.fetch("SELECT count(*) AS number FROM tortoise_migrations"))[0]["number"])
    await store.close()

asyncio.run(main())
"""
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for url in ("", postgres_server.url()) * 3
    ]
    outputs = [process.communicate(timeout=60)[0] for process in starts]
    assert outputs == [f"{len(SHIPPED)}\n"] * 6


async def test_tables_and_migrations_agree() -> None:
    config = {
        "connections": {"default": {"engine": sqlite.__name__, "credentials": {"file_path": ":memory:"}}},
        "apps": migrate.MODELS,
    }
    with TortoiseContext() as context:
        await context.init(config)
        assert context.apps is not None
        changes = await MigrationAutodetector(context.apps, migrate.MODELS).changes()
        await context.close_connections()
    assert changes == [], "tables were changed without a migration"


def test_migrations_need_no_optional_package() -> None:
    for path in Path(next(iter(shipped.__path__))).glob("*.py"):
        assert "orjson" not in path.read_text()
