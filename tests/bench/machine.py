"""The machine: cores, processes and what they have used."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = {CORES[-1]}
LOAD_CORES = set(CORES[:-1]) or SERVER_CORE
"""The server under test has one core to itself, the load and the upstreams have the others (if there are any)."""


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(cores: set[int]) -> Callable[[], None]:
    """What a child process does first: stay on these cores."""
    return lambda: os.sched_setaffinity(0, cores)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        with _ended():
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def _ended() -> contextlib.suppress:
    """What a process or thread has that ended since it was listed: nothing."""
    return contextlib.suppress(FileNotFoundError, ProcessLookupError)


def cpu_seconds(pid: int) -> float:
    """User and system time that the threads of a process tree have used so far, to the nanosecond.

    utime and stime of /proc/PID/stat count in ticks of 10 ms, too coarse for a few streams; schedstat measures.
    """
    total = 0
    for member in tree(pid):
        with _ended():
            total += sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{member}/task").iterdir())
    return total / 1e9


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process tree, in MB (10^6 bytes)."""
    rss = pss = 0
    for member in tree(pid):
        with _ended():
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1])
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1])
    return rss * 1024 / 1e6, pss * 1024 / 1e6


def describe() -> str:
    """Processor, cores, kernel and how the cores were shared out."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?"
    )
    shared = "server and load share one core" if LOAD_CORES == SERVER_CORE else f"server on core {CORES[-1]}, load and upstreams elsewhere"
    kernel = subprocess.run(["uname", "-sr"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{model}, {len(CORES)} cores ({shared}), {kernel}"
