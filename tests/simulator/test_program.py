"""The simulator as a program of its own: what it prints, and how it ends."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from dwctl import simulator

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The running program and its base URL."""
    command = [sys.executable, "app.py", "simulate", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("simulator listening on http://127.0.0.1:")
    return process, line.split()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    process, url = start("--ledger", str(tmp_path / "ledger"))
    try:
        request = urllib.request.Request(
            url + "/chat/completions",
            b'{"model":"sim-chat","messages":[{"role":"user","content":"hi"}]}',
            {"content-type": "application/json", "x-request-id": "one"},
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(number)
        assert process.wait(10) == 0
    assert list(simulator.read_ledger(tmp_path / "ledger")) == ["one"]


def test_what_was_served_survives_a_kill(tmp_path: Path) -> None:
    process, url = start("--ledger", str(tmp_path / "ledger"))
    request = urllib.request.Request(
        url + "/embeddings", b'{"model":"sim-embed","input":"hi"}', {"content-type": "application/json", "x-request-id": "one"}
    )
    with urllib.request.urlopen(request) as answer:
        answer.read()
    process.kill()
    process.wait(10)
    assert simulator.read_ledger(tmp_path / "ledger")["one"].prompt_tokens == 1
