"""What happens over time: configuration that changes under load, silence in a stream, stopping, HTTPS, old HTTP."""

import asyncio
import contextlib
import datetime
import ipaddress
import json
import resource
import shutil
import socket
import sqlite3
import ssl
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.appliance import PRICE, Appliance, Simulator, model, running, setup, until
from tests.e2e.test_gateway import HEADERS, ask, raw, request_bytes
from tests.migrated import put_database

MODELS = [
    model("chat", "sim-chat", prices=[PRICE]),
    model("paced", "sim-chat?rate=20&tokens=40", prices=[PRICE]),
    model("endless", "sim-chat?rate=5&tokens=5000", prices=[PRICE]),
    model("silent", "sim-chat?latency=17000&tokens=2", prices=[PRICE]),
    model("rated", "sim-chat", requests_per_second=0.05, burst_size=1),
]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Appliance, Simulator]]:
    with running(tmp_path, lambda url: setup(url, MODELS), settings={"shutdown": {"drain_timeout": 2}}) as pair:
        yield pair


async def test_changes_under_load_disturb_nobody(pair: tuple[Appliance, Simulator]) -> None:
    appliance, simulator = pair
    async with aiohttp.ClientSession(appliance.url, headers=HEADERS) as http:

        async def status(alias: str) -> int:
            async with http.post("/v1/chat/completions", json=ask(alias)) as response:
                await response.read()
                return response.status

        async def stream() -> str:
            async with http.post("/v1/chat/completions", json=ask("paced", stream=True)) as response:
                return (await response.read()).decode()

        assert [await status("rated"), await status("rated")] == [200, 429]
        streams = [asyncio.create_task(stream()) for _ in range(5)]
        await asyncio.to_thread(until, lambda: appliance.metrics()["onwards_requests_inflight"] == 5, 5, "five streams")
        for number in range(2):
            changed = [*MODELS[:-1], MODELS[-1] | {"description": f"change {number}"}, model(f"new-{number}", "sim-chat")]
            await asyncio.to_thread(appliance.apply, setup(simulator.url, changed))
            async with asyncio.timeout(5):
                while await status(f"new-{number}") != 200:
                    pass
            assert await status("rated") == 429, "a drained rate was refilled"
        assert all(text.endswith("data: [DONE]\n\n") for text in await asyncio.gather(*streams))
        await asyncio.to_thread(until, lambda: appliance.metrics()["dwctl_concurrency_slots"] == 0, 5, "no slot left")


async def test_a_deleted_key_dies_at_once(pair: tuple[Appliance, Simulator]) -> None:
    appliance, _ = pair
    admin = {"email": "admin@example.com", "password": "correct horse battery"}
    async with aiohttp.ClientSession(appliance.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.post("/authentication/login", json=admin) as response:
            assert response.status == 200, await response.text()
        async with http.get("/admin/api/v1/users", params={"search": "dev@example.com"}) as response:
            user = (await response.json())["data"][0]["id"]
        async with http.get(f"/admin/api/v1/users/{user}/api-keys") as response:
            key = (await response.json())["data"][0]["id"]
        async with http.post("/v1/chat/completions", json=ask("chat"), headers=HEADERS) as response:
            assert response.status == 200
        async with http.delete(f"/admin/api/v1/users/{user}/api-keys/{key}") as response:
            assert response.status == 204
        async with http.post("/v1/chat/completions", json=ask("chat"), headers=HEADERS) as response:
            assert response.status == 403


async def test_a_silent_stream_is_kept_alive(pair: tuple[Appliance, Simulator]) -> None:
    appliance, _ = pair
    async with aiohttp.ClientSession(appliance.url, headers=HEADERS) as http:
        async with http.post("/v1/chat/completions", json=ask("endless", stream=True)) as response:
            await response.content.readuntil(b"content")
            response.close()
        silent = ask("silent-after-head", stream=True)
        document = setup(pair[1].url, [model("silent-after-head", "sim-stall", prices=[PRICE])])
        await asyncio.to_thread(appliance.apply, document)
        async with asyncio.timeout(5):
            while True:
                response = await http.post("/v1/chat/completions", json=silent)
                if response.status == 200:
                    break
                response.close()
        started = time.monotonic()
        async with asyncio.timeout(25):
            await response.content.readuntil(b": ping\n\n")
        assert 14 < time.monotonic() - started < 18
        response.close()


async def test_stopping_lets_streams_end_and_breaks_off_the_rest_properly(pair: tuple[Appliance, Simulator]) -> None:
    appliance, _ = pair
    async with aiohttp.ClientSession(appliance.url, headers=HEADERS) as http:

        async def stream(alias: str, **fields: int) -> str:
            async with http.post("/v1/chat/completions", json=ask(alias, stream=True, **fields)) as response:
                return (await response.read()).decode()

        streams = [asyncio.create_task(stream("paced", max_tokens=20)), asyncio.create_task(stream("endless"))]
        await asyncio.to_thread(until, lambda: appliance.metrics()["onwards_requests_inflight"] == 2, 5, "two streams")
        assert await asyncio.to_thread(appliance.stop) == 0
        ended, broken = await asyncio.gather(*streams)
    assert ended.endswith("data: [DONE]\n\n")
    assert "server_shutting_down" not in ended
    assert '"code":"server_shutting_down"' in broken
    assert broken.endswith("data: [DONE]\n\n")
    with contextlib.closing(sqlite3.connect(appliance.data_dir / "dwctl.db")) as database:
        [row] = database.execute("SELECT outcome, charge_nano FROM requests WHERE error_code = 'server_shutting_down'")
    assert row == ("interrupted", None), "that dwctl is restarted is not the client's doing"


async def test_a_second_signal_ends_it_at_once_and_what_was_answered_is_charged(tmp_path: Path) -> None:
    settings = {"shutdown": {"drain_timeout": 60}}
    with running(tmp_path, lambda url: setup(url, MODELS), settings=settings) as (appliance, _):
        async with aiohttp.ClientSession(appliance.url, headers=HEADERS) as http:
            endless = await http.post("/v1/chat/completions", json=ask("endless", stream=True))
            ending = await http.post("/v1/chat/completions", json=ask("paced", stream=True, max_tokens=10))
            assert appliance.process is not None
            appliance.process.terminate()
            await asyncio.to_thread(until, lambda: appliance.events("stopping"), 10, "it has understood")
            # For half a second a second signal counts as the first one's echo; an endless stream goes on meanwhile.
            understood = time.monotonic()
            assert (await ending.read()).endswith(b"data: [DONE]\n\n")
            while time.monotonic() < understood + 0.6:
                await endless.content.readuntil(b"\n\n")
            appliance.process.terminate()
            assert await asyncio.to_thread(appliance.process.wait, 10) == 1
            appliance.process = None
            with pytest.raises(aiohttp.ClientPayloadError):
                await endless.read()
        await asyncio.to_thread(appliance.start)
        assert await asyncio.to_thread(appliance.stop) == 0
    with contextlib.closing(sqlite3.connect(appliance.data_dir / "dwctl.db")) as database:
        charged = database.execute("SELECT source_id FROM credits_transactions WHERE transaction_type = 'usage'").fetchall()
        interrupted = database.execute("SELECT id, error_code FROM requests WHERE outcome = 'interrupted'").fetchall()
    assert charged == [(ending.headers["x-request-id"],)]
    assert [(str(uuid.UUID(bytes=id_) if isinstance(id_, bytes) else id_), code) for id_, code in interrupted] == [
        (endless.headers["x-request-id"], "gateway_crash")
    ]


async def test_http_1_0_gets_no_chunks(pair: tuple[Appliance, Simulator]) -> None:
    appliance, _ = pair

    for stream in (False, True):
        request = request_bytes(json.dumps(ask("chat", stream=stream)).encode()).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        answer = await asyncio.to_thread(raw, appliance.port, request)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"chunked" not in head
        assert b"connection: close" in head
        assert body.endswith(b"[DONE]\n\n") if stream else json.loads(body)["choices"]


async def test_https(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    settings = {"tls": {"certificate": str(tmp_path / "certificate.pem"), "key": str(tmp_path / "key.pem")}}
    appliance = Appliance(tmp_path, settings=settings)
    context = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    appliance.launch()
    try:
        async with aiohttp.ClientSession(f"https://127.0.0.1:{appliance.port}") as http, asyncio.timeout(20):
            while True:
                try:
                    async with http.get("/healthz", ssl=context) as response:
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectorError:
                    assert appliance.process is not None
                    assert appliance.process.poll() is None, appliance.log.read_text()
    finally:
        appliance.close()


def test_metrics_are_judged_by_the_address_unless_a_proxy_that_is_not_named_passed_the_request_on(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path, settings={"metrics": {"token": "watcher"}})
    appliance.start()
    try:
        request = b"GET /internal/metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\r\nconnection: close\r\n\r\n"
        assert raw(appliance.port, request).startswith(b"HTTP/1.1 200 ")
        assert not appliance.events("request_failed")
        for header in (b"X-Forwarded-For: 127.0.0.1", b"Forwarded: for=127.0.0.1", b"Via: 1.1 proxy") * 2:
            passed_on = b"GET /internal/metrics HTTP/1.1\r\nhost: x\r\n" + header + b"\r\nconnection: close\r\n"
            assert raw(appliance.port, passed_on + b"\r\n").startswith(b"HTTP/1.1 403 ")
            assert raw(appliance.port, passed_on + b"authorization: Bearer watcher\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        [warning] = appliance.events("metrics_refused_behind_proxy")
        assert "trusted_proxies" in warning["remedy"]
    finally:
        appliance.close()


def test_head_of_the_root_answers(pair: tuple[Appliance, Simulator]) -> None:
    answer = raw(pair[0].port, b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_copied_data_folder_is_no_second_node(postgres_url: str, tmp_path: Path) -> None:
    impatient = "import dwctl.server; dwctl.server.DATABASE_WAIT_SECONDS = 0.3; from dwctl.cli import main; main()"
    first = Appliance(tmp_path / "first", database_url=postgres_url)
    second = Appliance(tmp_path / "second", database_url=postgres_url, program=(sys.executable, "-c", impatient))
    try:
        first.start()
        shutil.copytree(first.data_dir, second.data_dir)
        second.launch()
        assert second.process is not None
        assert second.process.wait(20) == 2
        second.process = None
        said = second.log.read_text().splitlines()[-1]
        assert "node_id" in said
        assert str(second.data_dir / "node_id") in said
        assert "--data-dir of its own" in said
        assert first.get_json("/readyz") == (200, {"status": "ok", "reasons": []})
        shutil.rmtree(second.data_dir)
        second.start()
    finally:
        first.close()
        second.close()


async def test_without_any_key_everybody_is_denied(tmp_path: Path) -> None:
    with running(tmp_path, lambda url: {**setup(url, MODELS), "keys": []}) as (appliance, simulator):
        async with aiohttp.ClientSession(appliance.url) as http:
            for headers, status in (({}, 401), (HEADERS, 403)):
                async with http.post("/v1/chat/completions", json=ask("chat"), headers=headers) as response:
                    assert response.status == status
        assert simulator.served() == {}


def test_every_descriptor_that_the_system_allows_is_used_and_the_last_is_missed_aloud(tmp_path: Path) -> None:
    soft, hard = 80, 200
    appliance = Appliance(tmp_path, prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))
    put_database(appliance.data_dir)
    appliance.start()
    try:
        with contextlib.ExitStack() as connections:
            kept = [connections.enter_context(socket.create_connection(("127.0.0.1", appliance.port))) for _ in range(soft)]
            for connection in kept:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert not appliance.events("no_file_descriptor_left")
            for _ in range(hard - soft):
                connections.enter_context(socket.create_connection(("127.0.0.1", appliance.port)))
            until(lambda: appliance.events("no_file_descriptor_left"), 10, "the log says that there is none left")
        assert appliance.events("no_file_descriptor_left")[0]["limit"] == hard
        until(lambda: appliance.get("/readyz") == 200, 10, "it serves again")
    finally:
        appliance.close()
