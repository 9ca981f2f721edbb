"""Calls from inside the program."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dwctl import tokens
from dwctl.config import Config
from dwctl.config.schema import Timeouts
from dwctl.gateway import Gateway, InsideCall, inside
from dwctl.server import build_services, close_services
from dwctl.store import Changes, Store
from dwctl.tokens import encodings
from tests.appliance import PRICE, USER, Appliance, model, setup
from tests.migrated import put_database
from tests.waiting import until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
END = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def calling(
    tmp_path: Path, answer: Answer, client_write: float = 30
) -> AsyncIterator[tuple[Store, Gateway, Callable[[Any], InsideCall]]]:
    """Everything but the server, before a provider that answers as it is told; the last of the three calls its model."""
    provider = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with provider, contextlib.AsyncExitStack() as stack:
        data_dir = Appliance(tmp_path).data_dir
        put_database(data_dir)
        document = setup(f"http://127.0.0.1:{provider.sockets[0].getsockname()[1]}/v1", [model("m", "m", prices=[PRICE])])
        await asyncio.to_thread(Appliance(tmp_path).apply, document)
        store = await Store.open(None, data_dir)
        stack.push_async_callback(store.close)
        config = Config(data_dir=data_dir, timeouts=Timeouts(client_write=client_write))
        services, gateway = await build_services(config, store, Changes(store), node="n", origins={})
        stack.push_async_callback(close_services, services, 5)
        gateway.start()
        [user] = await store.fetch("SELECT id FROM users WHERE email = ?", (USER,))
        principal = services.keyring.principal_of_person(str(user["id"]), "playground")
        assert principal is not None
        question = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        yield store, gateway, lambda more: services.call(principal, "/chat/completions", msgspec.json.encode(question | more), None)


@contextlib.asynccontextmanager
async def unread_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_write: float) -> AsyncIterator[tuple[Gateway, InsideCall]]:
    """A call whose answer is complete and recorded, but for the reader, who was given one piece of it and has not taken that."""
    monkeypatch.setattr(inside, "_CHUNKS", 1)
    await tokens.prepare()  # on a busy machine that takes longer than the reader is given
    has_come = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + EVENT)
        await has_come.wait()
        writer.write(END)
        writer.close()

    async with calling(tmp_path, answer, client_write) as (_, gateway, ask):
        call = ask({"stream": True})
        await until(lambda: gateway.live)
        [exchange] = gateway.live
        await until(lambda: exchange.sink.started)
        has_come.set()
        await until(lambda: exchange.settled)
        yield gateway, call
        assert exchange.outcome == "complete"


async def test_is_not_waited_for_any_longer_than_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with unread_call(tmp_path, monkeypatch, 0.3) as (gateway, call):
        await until(lambda: not gateway.live, 3)
        assert [chunk async for chunk in call.chunks()] == [EVENT]


async def test_ends_with_the_time_to_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with unread_call(tmp_path, monkeypatch, 60) as (gateway, _):
        assert gateway.live
        async with asyncio.timeout(3):
            await gateway.drain(0.1)
        assert not gateway.live


ANSWER = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "abcd"}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize("content", ["hello", "read this file", "an image " + "x" * 270_000])
async def test_an_answer_is_delivered_and_charged_by_its_size_when_the_tokenizer_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(encodings, "RANKS", tmp_path / "gone")
    monkeypatch.setattr(encodings, "_loaded", {})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + ANSWER)
        writer.close()

    async with calling(tmp_path, answer) as (store, gateway, ask):
        call = ask({"messages": [{"role": "user", "content": content}]})
        assert [chunk async for chunk in call.chunks()] == [ANSWER]
        await gateway.ledger.recorded()
        [row] = await store.fetch("SELECT id, outcome, status FROM requests")
        assert row == {"id": call.id, "outcome": "complete", "status": 200}
        [charge] = await store.fetch("SELECT source_id, amount_nano FROM credits_transactions WHERE transaction_type = 'usage'")
        assert charge["source_id"] == call.id
        assert charge["amount_nano"] > 0
