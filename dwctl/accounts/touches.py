"""When a key was last used and a user last signed in: noted in memory, written in the background.

Both are for people to look at. They may be late by the interval, are lost by a crash within it, and never bump the change version.
"""

import asyncio
from typing import TYPE_CHECKING

from dwctl.clock import MICROSECONDS, now_us
from dwctl.telemetry.alarms import alarm

if TYPE_CHECKING:
    from dwctl.store import Store, Tx

FLUSH_INTERVAL = 20.0
"""Seconds between two writes."""

LOGIN_REFRESH_US = 300 * MICROSECONDS
"""How stale a user's last sign-in may get while they are active."""

_CHUNK = 500

_KEYS_SQL = "UPDATE api_keys SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)"
_USERS_SQL = "UPDATE users SET last_login_at = ? WHERE id = ? AND (last_login_at IS NULL OR last_login_at < ?)"


class Touches:
    """Latest times by id, until they are written."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._logins: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._store: Store | None = None
        self._task: asyncio.Task[None] | None = None

    def key(self, key_id: str, at_us: int) -> None:
        """A key was used at ``at_us``."""
        self._keys[key_id] = at_us

    def noted(self, key_id: str) -> int | None:
        """When a key was used, until that is written."""
        return self._keys.get(key_id)

    def login(self, user_id: str, at_us: int) -> None:
        """A user was seen at ``at_us``; what is written is every five minutes' first."""
        if at_us - self._seen.get(user_id, 0) >= LOGIN_REFRESH_US:
            self._seen[user_id] = self._logins[user_id] = at_us

    def start(self, store: "Store") -> None:
        self._store = store
        self._task = asyncio.create_task(self._run(), name="last used")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            await self._try_flush()

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except Exception as error:
            # A database that is away is reported by the ledger; these times are kept until it is back.
            alarm("accounts", "last_use_not_written", "warning", error=type(error).__name__)

    async def flush(self) -> None:
        """Write everything noted so far. Raises what the store raises; what was not written stays noted."""
        await self._write(self._keys, _KEYS_SQL)
        await self._write(self._logins, _USERS_SQL)
        now = now_us()
        self._seen = {user_id: at_us for user_id, at_us in self._seen.items() if now - at_us < LOGIN_REFRESH_US}

    async def _write(self, noted: dict[str, int], sql: str) -> None:
        if self._store is None:
            return
        while noted:
            chunk = list(noted.items())[:_CHUNK]
            rows = [(at_us, id_, at_us) for id_, at_us in chunk]

            async def write(tx: "Tx", rows: list[tuple[int, str, int]] = rows) -> None:
                await tx.execute_many((sql, rows))

            await self._store.write(write, alone=False)
            for id_, at_us in chunk:
                if noted.get(id_) == at_us:
                    del noted[id_]

    async def close(self) -> None:
        """Stop, and write what is outstanding if the database answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._try_flush()
