"""``dwctl apply``: endpoints, groups, users, models with prices, grants and keys from one file. docs/apply.md describes it.

The file is read and checked as a whole before anything is written; then every entry is one transaction, so that a server
that runs beside it is never kept waiting, and running it again after a stop carries on. What the database already says is
not written again: applying a file twice changes nothing the second time. What the file does not mention is left alone.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
from tortoise.exceptions import IntegrityError

from dwctl.accounts import CLI, Actor
from dwctl.config import Config
from dwctl.errors import GatewayError
from dwctl.operations.apply import accounts, catalog
from dwctl.operations.apply.document import Document, KeyEntry, read
from dwctl.operations.apply.work import Outcome, Work
from dwctl.operations.first_start import ensure_foundations
from dwctl.sealing import Sealer
from dwctl.store import Store, Tx

__all__ = ["NewKey", "Report", "Target", "apply"]

Check = Callable[[Work, Any], object]
Step = Callable[[Work, Tx, Any], Awaitable[Outcome]]

KINDS: tuple[tuple[str, Check, Step], ...] = (
    ("endpoints", catalog.check_endpoint, catalog.endpoint),
    ("groups", accounts.check_group, accounts.group),
    ("users", accounts.check_user, accounts.user),
    ("models", catalog.check_model, catalog.model),
    ("grants", accounts.check_grant, accounts.grant),
    ("keys", accounts.check_key, accounts.key),
)
"""Kinds of entries in an order in which each finds what it names."""


class Target(Protocol):
    """What is applied to: the database, the configuration, and the key that seals credentials."""

    @property
    def config(self) -> Config: ...
    @property
    def store(self) -> Store: ...
    @property
    def sealer(self) -> Sealer: ...


class NewKey(msgspec.Struct, frozen=True):
    """A key that was made without a given secret: this is the only time that the secret is known."""

    user: str
    name: str
    secret: str


class Report(msgspec.Struct):
    """What applying did: numbers by kind of entry, and the secrets of new keys."""

    created: dict[str, int] = msgspec.field(default_factory=dict)
    updated: dict[str, int] = msgspec.field(default_factory=dict)
    unchanged: dict[str, int] = msgspec.field(default_factory=dict)
    new_keys: list[NewKey] = msgspec.field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.created or self.updated)

    def count(self, kind: str, outcome: Outcome) -> None:
        numbers: dict[str, int] = getattr(self, outcome)
        numbers[kind] = numbers.get(kind, 0) + 1

    def lines(self) -> list[str]:
        """The report for people, without secrets."""
        told = [
            f"{outcome}: {', '.join(f'{number} {kind[:-1] if number == 1 else kind}' for kind, number in numbers.items())}"
            for outcome, numbers in (("created", self.created), ("updated", self.updated), ("unchanged", self.unchanged))
            if numbers
        ]
        if not self.changed:
            told.append("Nothing had to be changed.")
        return told


async def apply(
    target: Target,
    document: Path | Mapping[str, Any],
    *,
    actor: Actor = CLI,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Apply a file, or a document that is already plain data, and say what was done.

    ``environ`` is where ``*_env`` fields look. Keys whose secret has to be made come last and together, so that no secret is
    made and then not told. Raises ConfigurationError naming file, line and field; then entries before that one may have been
    applied. Raises StoreUnavailable.
    """
    parsed, source = read(document)
    work = Work(target.config, target.sealer, actor, source, os.environ if environ is None else environ)
    _check(work, parsed)
    # Before the first start, too, so that no user of the file takes the names of the system's own.
    await ensure_foundations(target.store)
    report = Report()
    nameless: list[tuple[int, KeyEntry]] = []
    for kind, _, step in KINDS:
        for index, entry in enumerate(getattr(parsed, kind)):
            if isinstance(entry, KeyEntry) and accounts.secret_of(work, entry) is None:
                nameless.append((index, entry))
                continue
            work.place = (kind, index)
            with _told(work):
                report.count(kind, await target.store.write(partial(_one, work, step, entry)))
    if nameless:
        with _told(work):
            for outcome in await target.store.write(partial(_keys, work, nameless)):
                report.count("keys", outcome)
        report.new_keys = [NewKey(user=user, name=name, secret=secret) for (user, name), secret in work.made.items()]
    return report


async def _one(work: Work, step: Step, entry: Any, tx: Tx) -> Outcome:
    return await step(work, tx, entry)


async def _keys(work: Work, entries: Sequence[tuple[int, KeyEntry]], tx: Tx) -> list[Outcome]:
    work.made.clear()
    outcomes: list[Outcome] = []
    for index, entry in entries:
        work.place = ("keys", index)
        outcomes.append(await accounts.key(work, tx, entry))
    return outcomes


class _told:
    """What an entry is refused with, as an error that names its place."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        work = self._work
        if isinstance(error, GatewayError):
            field = error.param.split(".") if error.param else []
            place = (*work.place, *field) if all(step.isidentifier() for step in field) else work.place
            raise work.source.error(place, error.message) from error
        if isinstance(error, IntegrityError):
            raise work.source.error(work.place, "somebody else is changing the same at this moment; apply the file again") from error


def _check(work: Work, document: Document) -> None:
    """What can be known to be wrong without the database: bounds, prices, amounts, environment, entries given twice."""
    _once(work, "endpoints", [entry.name for entry in document.endpoints])
    _once(work, "groups", [entry.name for entry in document.groups])
    _once(work, "users", [entry.email.lower() for entry in document.users])
    _once(work, "models", [entry.alias for entry in document.models])
    _once(work, "grants", [entry.source_id for entry in document.grants])
    _once(work, "keys", [(entry.user.lower(), entry.name) for entry in document.keys])
    for kind, check, _ in KINDS:
        for index, entry in enumerate(getattr(document, kind)):
            work.place = (kind, index)
            with _told(work):
                check(work, entry)


def _once(work: Work, kind: str, names: Sequence[object]) -> None:
    first: dict[object, int] = {}
    for index, name in enumerate(names):
        if name in first:
            raise work.source.error((kind, index), f"the same as {kind}[{first[name]}]")
        first[name] = index
