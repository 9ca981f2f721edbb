"""Prints what a server program costs before it does anything: size, time to the first /healthz 200, idle memory.

usage: python -m build.measure dist/dwctl
"""

import http.client
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTS = 5
SETTLE_SECONDS = 2.0
GIVE_UP_SECONDS = 30.0


@contextmanager
def served(program: list[str], data_dir: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A running server and the seconds that it took to answer /healthz with 200. Raises RuntimeError if it does not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DWCTL_")}
    command = [*program, "serve", "--port", str(port), "--data-dir", data_dir, "--admin-password", "measured-only"]
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _healthy(port):
            if process.poll() is not None:
                raise RuntimeError(f"{program[-1]} serve ended with {process.returncode}")
            if time.monotonic() - began > GIVE_UP_SECONDS:
                raise RuntimeError(f"{program[-1]} serve was not ready within {GIVE_UP_SECONDS:.0f} s")
            time.sleep(0.005)
        yield process, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(GIVE_UP_SECONDS)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def tree(pid: int) -> list[int]:
    """``pid`` and all that descends from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in tree(int(child)))]


def proportional_bytes(pid: int) -> int:
    """Memory of the process tree, in bytes, shared pages divided among those who share them (PSS)."""
    total = 0
    for process in tree(pid):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def main() -> None:
    program = sys.argv[1:]
    took: list[float] = []
    memory = 0
    with tempfile.TemporaryDirectory() as folder:
        for start in range(STARTS):
            with served(program, f"{folder}/{start}") as (process, seconds):
                took.append(seconds)
                if start == STARTS - 1:
                    time.sleep(SETTLE_SECONDS)
                    memory = proportional_bytes(process.pid)
    size = Path(program[-1]).stat().st_size
    print(
        f"{program[-1]}: {size / 1e6:.1f} MB, first /healthz 200 after {statistics.median(took):.2f} s"
        f" (slowest of {STARTS}: {max(took):.2f} s), {memory / 1e6:.0f} MB idle (PSS)"
    )


if __name__ == "__main__":
    main()
