"""What the steps of one application share: where they are in the file, on whose behalf, and how a mistake is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from dwctl.accounts import NIL, Actor
from dwctl.config import Config
from dwctl.errors import ConfigurationError
from dwctl.operations.apply.document import Place, Source
from dwctl.operations.audit import audit
from dwctl.sealing import Sealer
from dwctl.store import Tx
from dwctl.store.tables import Group

EVERYONE = "Everyone"
Outcome = Literal["created", "updated", "unchanged"]


@dataclass
class Work:
    """One application of one document."""

    config: Config
    sealer: Sealer
    actor: Actor
    source: Source
    environ: Mapping[str, str]
    place: Place = ()
    """The entry that is being looked at."""
    made: dict[tuple[str, str], str] = field(default_factory=dict)
    """(user, key's name) -> the secret that was made for it."""

    def error(self, name: str, message: str) -> ConfigurationError:
        """A mistake in a field of the present entry."""
        return self.source.error((*self.place, name), message)

    def given(self, entry: msgspec.Struct, name: str) -> Any:
        """The value of a field, or what the environment variable named by ``{name}_env`` holds; UNSET without either.
        Raises ConfigurationError."""
        value, variable = getattr(entry, name), getattr(entry, f"{name}_env")
        if variable is UNSET:
            return value
        if value is not UNSET:
            raise self.error(f"{name}_env", f"give {name} or {name}_env, not both")
        if not self.environ.get(variable):
            raise self.error(f"{name}_env", f"the environment variable {variable} is not set")
        return self.environ[variable]

    async def groups(self, tx: Tx, names: Sequence[str]) -> set[str]:
        """The ids of the groups that the present entry names. Raises ConfigurationError for a name that is none."""
        found: set[str] = set()
        for name in names:
            row = None if name == EVERYONE else await Group.get_or_none(live_name=name, using_db=tx.orm)
            if row is None and name != EVERYONE:
                raise self.error("groups", f"there is no group {name!r}")
            found.add(NIL if row is None else str(row.id))
        return found

    async def audit(self, tx: Tx, action: str, resource: str, resource_id: str, difference: Mapping[str, tuple[Any, Any]]) -> None:
        """An audit row for field -> (before, after)."""
        before, after = ({name: pair[side] for name, pair in difference.items()} for side in (0, 1))
        await audit(tx, self.actor, action, resource, resource_id, before, after)


def sent(entry: msgspec.Struct, *names: str) -> dict[str, Any]:
    """The fields among ``names`` that the file gives."""
    return {name: value for name in names if (value := getattr(entry, name)) is not UNSET}
