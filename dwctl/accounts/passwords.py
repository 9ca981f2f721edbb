"""Passwords: argon2id (RFC 9106), hashed and verified in threads so that the event loop keeps turning.

Verification uses the parameters in the stored hash; a hash made with other parameters than the configured ones is
replaced at the next sign-in. An account without a password costs as much time as one with a wrong password.
"""

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from dwctl.config.schema import Password
from dwctl.errors import bad_request

_AT_ONCE = 2
"""Each takes a core and tens of megabytes."""


class Passwords:
    """Hashing and verification under one set of parameters. The configured lengths are in bytes of UTF-8."""

    def __init__(self, settings: Password) -> None:
        self._settings = settings
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_iterations,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
        )
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._decoy: str | None = None

    def check_length(self, password: str, *, field: str) -> None:
        """Raise GatewayError 400 naming ``field`` if the password is too short or too long."""
        length = len(password.encode("utf-8", "surrogatepass"))
        if length < self._settings.min_length:
            raise bad_request(f"Password must be at least {self._settings.min_length} characters", param=field)
        if length > self._settings.max_length:
            most = self._settings.max_length
            raise bad_request(f"Password must be no more than {most} bytes and has {length}; accented letters take two", param=field)

    async def hash(self, password: str) -> str:
        """The password's hash in PHC string form."""
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` is the one behind ``stored``. Without a stored hash the same work is done, and the answer is no."""
        async with self._slots:
            return await asyncio.to_thread(self._verify, stored, password)

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._decoy is None:
            self._decoy = self._hasher.hash(secrets.token_hex(16))
        try:
            matches = self._hasher.verify(stored or self._decoy, password)
        except (Argon2Error, InvalidHashError, UnicodeEncodeError):
            return False
        return matches and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than the configured ones."""
        return self._hasher.check_needs_rehash(stored)


def generate() -> str:
    """A password for somebody who has none: 120 bits, in characters that survive being typed."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(4))
