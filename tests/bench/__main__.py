"""Runs the benchmark and prints its tables.

usage: python -m tests.bench [--quick] [--memory] [--only NAME,...] [--program dist/dwctl] [--output FILE]

Contenders take turns within every round, and each ratio is formed within one round, so that a busy neighbour on the
machine does not decide it. It measures; it judges nothing by its exit code, and no test depends on it.
"""

import argparse
import asyncio
import gc
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.bench import contenders, load, machine, report
from tests.bench.contenders import Contender, Programs

NAMES = ("nginx", "forwarder", "dwctl")
BURST = 100
"""Chunks of a burst."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One run: what is measured, for how long, and what was found."""

    def __init__(self, options: argparse.Namespace, programs: Programs) -> None:
        self.quick: bool = options.quick
        self.memory_run: bool = options.memory
        self.programs = programs
        self.rounds = 1 if self.quick else 3
        self.seconds = 1 if self.quick else 2
        self.connections = (1, 64) if self.quick else (1, 16, 64)
        self.all: list[Contender] = []
        self.memory: dict[str, report.MemoryPoints] = {}
        self.sections: list[str] = []
        self._names = options.only.split(",") if options.only else list(NAMES)
        self._command = [options.program] if options.program else [sys.executable, "app.py"]

    async def run(self) -> str:
        """Everything, in order. The report as Markdown."""
        loop = asyncio.get_running_loop()
        load.PacedUpstream.chunks = 40 if self.quick else 100
        paced = await loop.create_server(load.PacedUpstream, "127.0.0.1", 0, backlog=4096)
        await asyncio.to_thread(self._start, paced.sockets[0].getsockname()[1])

        json_loads = {}
        for connections in self.connections:
            json_loads[connections] = await asyncio.to_thread(self._json, connections)
        self.sections.append("### JSON: 1 kB of chat request, 480 bytes of answer\n\n" + report.load_table(json_loads, streams=False))
        streams = {}
        for connections in self.connections:
            streams[connections] = await self._streams("sse", connections)
        self.sections.append("### SSE: 100 tokens, one every 5 ms\n\n" + report.load_table(streams, streams=True))
        bursts = {connections: await self._streams("burst", connections) for connections in self.connections[-1:]}
        self.sections.append("### SSE: 100 chunks at once\n\n" + report.load_table(bursts, streams=True))

        delays = {}
        count = 100 if self.quick else 400
        for contender in self.all:
            say(f"{count} streams, 10 chunks a second each: {contender.name}")
            delays[contender.name] = await load.paced_load(contender, count, load.PacedUpstream.chunks)
        title = f"### {count} streams at once, 10 chunks a second each: delay from the upstream's write to the client's read"
        self.sections.append(f"{title}\n\n{report.delay_table(delays)}")
        translated = await self._translated()
        if not self.quick:
            await asyncio.to_thread(self._grow)
        self.sections.append("### Memory\n\n" + report.memory_table(self.memory))
        self.sections.append("### Targets\n\n" + report.verdicts(json_loads, streams, delays, self.memory.get("dwctl", []), translated))
        paced.close()
        return "\n\n".join(self.sections)

    def _start(self, paced_port: int) -> None:
        say("starting")
        direct = contenders.upstreams(self.programs, paced_port)
        self.all = [direct]
        for name in self._names:
            if name == "dwctl":
                self.all.append(contenders.dwctl(self.programs, direct, self._command))
            else:
                self.all.append({"nginx": contenders.nginx, "forwarder": contenders.forwarder}[name](self.programs, direct))
        time.sleep(2)
        self._note_memory()

    def _json(self, connections: int) -> report.Measured:
        measured: report.Measured = {contender.name: [] for contender in self.all}
        for turn in range(self.rounds):
            for contender in self._turns(turn):
                say(f"JSON, {connections} connections, round {turn + 1}: {contender.name}")
                measured[contender.name].append(load.json_load(contender, connections, self.seconds, self.programs.directory))
        return measured

    async def _streams(self, kind: str, connections: int) -> report.Measured:
        measured: report.Measured = {contender.name: [] for contender in self.all}
        for turn in range(self.rounds):
            for contender in self._turns(turn):
                say(f"{kind}, {connections} connections, round {turn + 1}: {contender.name}")
                gc.collect()
                measured[contender.name].append(await load.stream_load(contender, kind, connections, self.seconds))
        return measured

    async def _translated(self) -> report.Measured:
        """Clients of other dialects before the same providers, at 16 connections; none if dwctl is not measured."""
        plain = [contender for contender in self.all if contender.name == "dwctl"]
        if not plain:
            return {}
        everyone, chat = self.all, plain[0]
        self.all = [chat, chat.in_dialect("messages"), chat.in_dialect("responses")]
        json = await asyncio.to_thread(self._json, 16)
        bursts = await self._streams("burst", 16)
        chat.requests += sum(contender.requests for contender in self.all[1:])
        self.all = everyone
        title = "### Translation: clients of three dialects, a provider of chat completions, 16 connections"
        self.sections.append(f"{title}\n\n{report.translation_table(json, bursts, BURST)}")
        return json

    def _turns(self, turn: int) -> list[Contender]:
        """All contenders, each round beginning with another."""
        first = turn % len(self.all)
        return self.all[first:] + self.all[:first]

    def _note_memory(self) -> None:
        for contender in self.all:
            if contender.pid is not None and contender.name != "nginx":
                self.memory.setdefault(contender.name, []).append((contender.requests, *machine.memory(contender.pid)))

    def _grow(self) -> None:
        """Memory after 200,000 requests and, when asked for, after 1,000,000."""
        for goal in (200_000, 1_000_000) if self.memory_run else (200_000,):
            for contender in self.all:
                if contender.name not in self.memory:
                    continue
                while contender.requests < goal:
                    say(f"memory: {contender.name} at {contender.requests:,} of {goal:,} requests")
                    load.json_load(contender, 16, 10 if goal - contender.requests > 20_000 else 2, self.programs.directory)
            time.sleep(5)
            self._note_memory()


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Compare dwctl with a bare forwarder and with nginx.")
    parser.add_argument("--quick", action="store_true", help="one short round (about a minute)")
    parser.add_argument("--memory", action="store_true", help="also memory after 1,000,000 requests (several minutes)")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {','.join(NAMES)}")
    parser.add_argument("--program", metavar="FILE", help="the binary to measure in place of app.py")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the report here too")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = options_of(arguments)
    missing = [program for program in ("nginx", "wrk") if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None]
    if missing:
        say(f"the benchmark needs {' and '.join(missing)}: apt-get install nginx-light wrk")
        return 2
    os.environ["PATH"] += ":/usr/sbin"
    os.sched_setaffinity(0, machine.LOAD_CORES)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dwctl-bench-") as directory, Programs(Path(directory)) as programs:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(Bench(options, programs).run())
    head = f"## Benchmark\n\n{machine.describe()}, Python {platform.python_version()}; medians of rounds in which all took turns."
    text = f"{head}\n\n{found}\n"
    print(text)
    say(f"took {time.monotonic() - began:.0f} s")
    if options.output is not None:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
