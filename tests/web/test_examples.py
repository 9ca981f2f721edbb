"""The examples of calls on the pages name the address at which users reach the API."""

from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from dwctl import clock, ids
from dwctl.accounts import SYSTEM
from dwctl.accounts.principals import NIL
from dwctl.config.schema import Metadata
from dwctl.ledger import Record
from dwctl.operations import api_keys
from dwctl.operations.endpoints import EndpointCreate, create_endpoint
from dwctl.operations.models import ModelCreate, create_model
from tests.administration import ADMIN_EMAIL, Administration, configuration, serving
from tests.web.visitor import Visitor

BASE = "https://llm.example.com/v1"


@pytest.fixture
async def server(sqlite_url: str, data_dir: Path) -> AsyncIterator[Administration]:
    config = configuration(data_dir, sqlite_url, metadata=Metadata(ai_api_base_url=f"{BASE}/"))
    async with serving(sqlite_url, config) as running:
        yield running


async def test_every_page_with_an_example_names_the_public_address(server: Administration) -> None:
    services = server.services
    endpoint = await create_endpoint(services, SYSTEM, EndpointCreate(name="down", url="http://127.0.0.1:9/v1", sync=False))
    everyone = [NIL]
    chat = await create_model(services, SYSTEM, ModelCreate(model_name="chat", hosted_on=endpoint, groups=everyone))
    alike = ModelCreate(model_name="alike", hosted_on=endpoint, model_type="EMBEDDINGS", groups=everyone)
    await create_model(services, SYSTEM, alike)
    [admin] = await services.store.fetch("SELECT id FROM users WHERE email = ?", [ADMIN_EMAIL])
    owner = str(admin["id"])
    key = await api_keys.create_key(services, SYSTEM, owner, api_keys.ApiKeyCreate(name="one", purpose="realtime"))
    visitor = await Visitor.sign_in(server)
    paths = ("/", f"/models/{chat}", f"/keys/{key.id}", "/playground?model=chat&code=1")
    pages = {path: await visitor.open(path) for path in paths}
    pages["compare"] = await visitor.send("/playground/embeddings", [("model", "alike"), ("texts", "one\ntwo")])
    fields = {"path": "/chat/completions", "operation": "chat", "alias": "chat", "endpoint_name": "down", "status": 200}
    record = Record(id=ids.new_text(), started_us=clock.now_us(), account_id=owner, holder_id=owner, key_id=str(key.id), **fields)
    services.ledger.end(record, None)
    await services.ledger.recorded()
    pages["replay"] = await visitor.open(f"/requests/{record.id}?tab=replay")
    for name, answer in pages.items():
        assert answer.status == 200, (name, answer.status)
        shown = unescape(answer.body)
        assert f"{BASE}/" in shown or f'{BASE}"' in shown, name
        assert "/ai/v1" not in shown, name
