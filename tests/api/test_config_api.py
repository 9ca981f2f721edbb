"""What clients are told about the installation."""

from pathlib import Path

from dwctl.config.schema import Metadata
from tests.administration import configuration, serving


async def test_only_what_may_be_known(sqlite_url: str, data_dir: Path) -> None:
    metadata = Metadata(
        region="eu",
        organization="Acme",
        docs_url="https://docs.example",
        docs_jsonl_url="https://docs.example/all.jsonl",
        title="Acme AI",
        ai_api_base_url="https://ai.example",
    )
    config = configuration(data_dir, sqlite_url, metadata=metadata, secret_key="a-canary-of-a-key")
    async with serving(sqlite_url, config) as server:
        secret = await server.key_of(await server.person())
        answer = await server.ask("GET", "/admin/api/v1/config", secret=secret)
        assert answer.body == {
            "region": "eu",
            "organization": "Acme",
            "payment_enabled": False,
            "docs_url": "https://docs.example",
            "docs_jsonl_url": "https://docs.example/all.jsonl",
            "title": "Acme AI",
            "ai_api_base_url": "https://ai.example",
            "onwards": {"strict_mode": False},
        }
        assert (await server.ask("GET", "/admin/api/v1/config")).status == 401


async def test_what_is_not_configured_is_left_out(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        body = (await server.admin("GET", "/config")).body
        assert "ai_api_base_url" not in body
        assert (body["region"], body["docs_url"], body["docs_jsonl_url"]) == (None, None, None)
