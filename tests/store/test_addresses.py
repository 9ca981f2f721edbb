"""The addresses of a PostgreSQL that a server does not start with, and what it says of them."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from dwctl.errors import ConfigurationError
from dwctl.store import Store
from tests.pooler import PASSWORD, Pooler, pooler_program


@pytest.fixture(params=[None, "default_transaction_read_only"])
def any_pooler(request: pytest.FixtureRequest, postgres_url: str, pooler: Pooler) -> Iterator[Pooler]:
    """One that refuses our setting, and one that takes it and forgets it."""
    if request.param is None:
        yield pooler
        return
    program = pooler_program()
    assert program is not None
    running = Pooler(program, urlsplit(postgres_url).port or 0, ignore_startup_parameters=request.param)
    yield running
    running.remove()


async def refusal(url: str, data_dir: Path, direct_url: str | None = None) -> str:
    with pytest.raises(ConfigurationError) as raised:
        await Store.open(url, data_dir, direct_url=direct_url, wait=30)
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


async def test_a_pooler_stands_where_the_server_itself_must(postgres_url: str, any_pooler: Pooler, data_dir: Path) -> None:
    pooled = any_pooler.url(postgres_url)
    said = await refusal(pooled, data_dir)
    assert said.startswith("database.url is the address of a connection pooler")
    assert "set database.direct_url to the address of the PostgreSQL server itself" in said
    said = await refusal(pooled, data_dir, direct_url=pooled)
    assert said.startswith("database.direct_url is the address of a connection pooler")


async def test_the_addresses_are_of_two_databases(postgres_url: str, pooler: Pooler, shared_postgres: Any, data_dir: Path) -> None:
    other = f"dwctl_{uuid.uuid4().hex}"
    shared_postgres(f"CREATE DATABASE {other}")
    said = await refusal(pooler.url(postgres_url), data_dir, direct_url=shared_postgres.url(other))
    assert (
        f"database.direct_url (database '{other}') and database.url (database '{postgres_url.rpartition('/')[2]}') are not the same" in said
    )
    assert "give as database.direct_url the address of the server that the pooler leads to" in said
    connection = await asyncpg.connect(shared_postgres.url(other))
    assert await connection.fetchval("SELECT to_regclass('properties')") is None, "nothing was written there"
    await connection.close()
    shared_postgres(f"DROP DATABASE {other}")


async def test_each_address_is_named_when_it_is_wrong(postgres_url: str, pooler: Pooler, data_dir: Path) -> None:
    pooled = pooler.url(postgres_url)
    said = await refusal(pooled, data_dir, direct_url=f"{postgres_url}_that_is_not_there")
    assert said.startswith("database.direct_url: database")
    said = await refusal(f"{pooled}?search_path=elsewhere", data_dir, direct_url=postgres_url)
    assert said == "database.url: unsupported startup parameter: search_path"
    said = await refusal(pooled, data_dir, direct_url=f"postgres://dwctl:{PASSWORD[:6]}/{PASSWORD}@127.0.0.1/dwctl")
    assert said.startswith("database.direct_url is not a URL of PostgreSQL")
    assert PASSWORD[:6] not in said
