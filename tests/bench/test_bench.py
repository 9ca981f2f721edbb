"""The benchmark's own instruments: what they count and how they reckon. Nothing here is timed."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dwctl import simulator
from tests.appliance import until
from tests.bench import contenders, load, machine, report
from tests.bench.contenders import PATH, UPSTREAM_MODELS, Contender
from tests.bench.load import Delays, Sample


def sample(cpu: float, p50: float = 1.0) -> Sample:
    return Sample(requests=100, seconds=2.0, p50=p50, p99=2.0, cpu=cpu)


def test_ratios_and_differences_are_formed_within_a_round() -> None:
    measured = {
        "direct": [sample(0, 1.0), sample(0, 5.0), sample(0, 2.0)],
        "forwarder": [sample(100), sample(300), sample(200)],
        "dwctl": [sample(150, 2.0), sample(420, 8.0), sample(320, 3.0)],
    }
    assert report.cpu_ratio(measured, "dwctl") == 1.5
    assert report.added(measured, "dwctl", "p50") == 1.0
    assert report.cpu_ratio({"dwctl": measured["dwctl"]}, "dwctl") is None
    text = report.load_table({16: measured}, streams=False)
    assert "| dwctl | 16 | 320 | 1.50 | 50 | +1.00 | +0.00 |" in text


def test_targets_that_are_missed_are_named() -> None:
    measured = {"direct": [sample(0)], "forwarder": [sample(100)], "dwctl": [sample(161)]}
    delays = {"direct": Delays(1, 0, 0, 1.0, 0, 0, 0), "dwctl": Delays(1, 0, 0, 2.0, 0, 0, 0)}
    translated = {"dwctl": [sample(100)], "messages -> chat": [sample(199)], "responses -> chat": [sample(201)]}
    text = report.verdicts({1: measured}, {}, delays, [(0, 90.0, 80.0), (200_000, 100.0, 90.0), (1_000_000, 104.0, 94.0)], translated)
    assert [line.rsplit("|", 2)[1].strip() for line in text.splitlines()[2:]] == ["NO", "yes", "yes", "NO", "yes", "yes"]
    assert report.growth([(0, 50.0, 50.0), (200_000, 100.0, 1.0)]) is None


def test_percentiles() -> None:
    assert load.percentile(range(1000), 0.999) == 999
    assert load.percentile(range(1000), 0.5) == 500
    assert load.percentile([7.0], 0.99) == 7.0


def test_the_processes_of_a_tree_are_counted() -> None:
    assert machine.tree(os.getpid())[0] == os.getpid()
    # A process of one thread: what threads had used that have ended is counted nowhere.
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        assert busy.pid in machine.tree(os.getpid())
        before = machine.cpu_seconds(busy.pid)
        until(lambda: machine.cpu_seconds(busy.pid) > before, 5, "time is counted")
        busy.kill()
    rss, pss = machine.memory(os.getpid())
    assert rss >= pss > 1


@pytest.mark.parametrize("kind", ["sse", "burst"])
async def test_the_stream_client_counts_whole_streams(kind: str) -> None:
    provider = await simulator.start()
    direct = Contender("direct", None, {kind: provider.url.removesuffix("/v1") + PATH}, UPSTREAM_MODELS, {})
    found = await load.stream_load(direct, kind, connections=3, seconds=0.2)
    assert found.requests == direct.requests == provider.served.outcomes["complete"] >= 3
    assert 0 < found.first_p50 <= found.p50 <= found.p99
    await provider.close()


async def test_the_stream_client_understands_a_declared_length() -> None:
    provider = await simulator.start()
    models = {"burst": "sim-echo?tokens=2&split=50"}
    direct = Contender("direct", None, {"burst": provider.url.removesuffix("/v1") + PATH}, models, {})
    direct.body = lambda kind: b'{"model":"sim-json-stream","stream":true,"messages":[{"role":"user","content":"x"}]}'  # type: ignore[method-assign]
    found = await load.stream_load(direct, "burst", connections=2, seconds=0.05)
    assert found.requests == provider.served.outcomes["complete"]
    await provider.close()


async def test_a_refusal_ends_the_measurement() -> None:
    provider = await simulator.start(api_key="sk-other")
    direct = Contender("direct", None, {"burst": provider.url.removesuffix("/v1") + PATH}, UPSTREAM_MODELS, {})
    with pytest.raises(RuntimeError, match="401"):
        await load.stream_load(direct, "burst", connections=1, seconds=5)
    await provider.close()


async def test_every_stamped_chunk_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.PacedUpstream, "chunks", 3)
    server = await asyncio.get_running_loop().create_server(load.PacedUpstream, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
    found = await load.paced_load(Contender("direct", None, {"paced": url}, UPSTREAM_MODELS, {}), streams=5, chunks=3)
    assert found.chunks == 15
    assert 0 < found.p50 <= found.worst < 60_000
    server.close()


async def test_the_forwarder_forwards(tmp_path: Path) -> None:
    provider = await simulator.start()
    direct = Contender("direct", None, dict.fromkeys(contenders.KINDS, provider.url.removesuffix("/v1") + PATH), UPSTREAM_MODELS, {})
    with contenders.Programs(tmp_path) as programs:
        forwarder = await asyncio.to_thread(contenders.forwarder, programs, direct)
        assert forwarder.pid is not None
        found = await load.stream_load(forwarder, "burst", connections=2, seconds=0.1)
        assert found.requests == provider.served.outcomes["complete"] > 0
        assert found.cpu > 0
    await provider.close()
