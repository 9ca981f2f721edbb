"""The simulator's own account of what it served, by request id: what a ledger can be compared with.

Each request that named a model leaves one entry, under the id of its ``x-request-id`` header (or one that the simulator
makes). In memory it is there from the moment the request was read (outcome ``open``); in the ledger file, where one is
kept, one JSON line is appended when the outcome is known. Both are written *before* the completing bytes of an answer
are handed to the socket, so that what a client received in full is always a part of what the account calls ``complete``.

Outcomes: ``complete`` (the whole answer was handed over, with the usage that it states), ``aborted`` (the client left
first), ``fault`` (the model's fault ended it), ``refused`` (answered with an error status).
"""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

KEEP = 250_000
"""Entries kept in memory; the oldest go first. The ledger file keeps all of them."""


class Usage(NamedTuple):
    """Tokens as the answer states them, or would; prompt includes those read from and written to a cache, completion includes
    reasoning. A dialect that does not count them so is told the same numbers in its own way."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0


class Entry(msgspec.Struct):
    """One request that the simulator was asked. ``sent`` counts the completion tokens handed to the socket so far."""

    id: str
    model: str
    path: str
    stream: bool = False
    outcome: str = "open"
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reported: bool = False
    """Whether the answer told its usage to the client (it may be computed, and not told)."""
    sent: int = 0
    times: int = 1
    """How often a request with this id arrived; the entry describes the last."""


class Served:
    """The account of one simulator."""

    def __init__(self, ledger: Path | None = None, keep: int = KEEP) -> None:
        """Raises OSError if the ledger file cannot be opened for appending."""
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._keep = keep
        self._made = 0
        self._fd = None if ledger is None else os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.asked = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.outcomes: dict[str, int] = {}

    def open(self, request_id: str | None, model: str, path: str, stream: bool) -> Entry:
        """A request was read whole. Every entry that is opened must be closed once."""
        self.asked += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if request_id is None:
            self._made += 1
            request_id = f"sim-request-{self._made}"
        entry = Entry(request_id, model, path, stream)
        before = self._entries.pop(request_id, None)
        if before is not None:
            entry.times = before.times + 1
        self._entries[request_id] = entry
        if len(self._entries) > self._keep:
            self._entries.popitem(last=False)
        return entry

    def close(self, entry: Entry, outcome: str) -> None:
        """The outcome is known; call it before the completing bytes are written. A second call changes nothing."""
        if entry.outcome != "open":
            return
        entry.outcome = outcome
        self.in_flight -= 1
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if self._fd is not None:
            os.write(self._fd, msgspec.json.encode(entry) + b"\n")

    def usage(self, entry: Entry, usage: Usage, reported: bool) -> None:
        """What the answer counts."""
        entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens, entry.reasoning_tokens, *written = usage
        entry.cache_write_tokens, entry.cache_write_1h_tokens = written
        entry.reported = reported

    def report(self, request_id: str | None = None) -> dict[str, Any]:
        """The body of GET /_served: counters, and the entries by id (of one id only, if given)."""
        if request_id is None:
            chosen = {entry.id: entry for entry in self._entries.values()}
        else:
            chosen = {request_id: self._entries[request_id]} if request_id in self._entries else {}
        return {
            "asked": self.asked,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "outcomes": self.outcomes,
            "served": {key: msgspec.to_builtins(entry) for key, entry in chosen.items()},
        }

    def reset(self) -> None:
        """Forget everything but what is in flight. The ledger file stays as it is."""
        self._entries = OrderedDict((key, entry) for key, entry in self._entries.items() if entry.outcome == "open")
        self.asked = self.peak_in_flight = self.in_flight
        self.outcomes = {}

    def finish(self) -> None:
        """Close what is open as aborted, and the ledger file."""
        for entry in list(self._entries.values()):
            self.close(entry, "aborted")
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_ledger(path: Path) -> dict[str, Entry]:
    """The entries of a ledger file by request id, the last of each id; a torn last line is left out."""
    entries: dict[str, Entry] = {}
    for line in path.read_bytes().splitlines():
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            continue
        entries[entry.id] = entry
    return entries
