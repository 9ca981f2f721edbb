"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under one key of the installation.

A sealed blob is ``version (1) | key id (8) | nonce (12) | ciphertext and tag``; version and key id are authenticated. The
key id is the beginning of the key's fingerprint, so that a blob says which key it needs. The key is derived (HKDF-SHA256,
RFC 5869) from the configured ``secret_key``, or is 32 random bytes in ``sealing.key`` of the data directory, made at the first start.
"""

import os
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dwctl.errors import ConfigurationError

KEY_FILE = "sealing.key"

_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEADER_BYTES = 1 + _ID_BYTES


class SealingError(Exception):
    """A blob cannot be opened: another key sealed it, or it was changed."""


class Secret:
    """A text that must not appear in logs, messages or pages: it can be revealed on purpose, and not be formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, specification: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialised")


class Sealer:
    """Seals and opens under one key. ``fingerprint`` (32 hex digits) tells keys apart without revealing them; ``signing_key`` is
    another key made from it, which signs what a browser keeps for us."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("a sealing key has 32 bytes")
        self._cipher = AESGCM(key)
        self.fingerprint = _derived(key, b"dwctl sealing key id", 16).hex()
        self.signing_key = _derived(key, b"dwctl signatures in forms and cookies", 32)
        self._header = _VERSION + bytes.fromhex(self.fingerprint)[:_ID_BYTES]

    def seal(self, secret: str | Secret) -> bytes:
        """The blob to store."""
        text = secret.reveal() if isinstance(secret, Secret) else secret
        nonce = os.urandom(_NONCE_BYTES)
        return self._header + nonce + self._cipher.encrypt(nonce, text.encode(), self._header)

    def unseal(self, blob: bytes) -> Secret:
        """What was sealed. Raises SealingError."""
        header, nonce = blob[:_HEADER_BYTES], blob[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES]
        if header[:1] != _VERSION or len(nonce) != _NONCE_BYTES:
            raise SealingError("this is not a sealed secret")
        if header != self._header:
            raise SealingError(f"sealed under another key ({header[1:].hex()}; the present key is {self.fingerprint[:16]})")
        try:
            return Secret(self._cipher.decrypt(nonce, blob[_HEADER_BYTES + _NONCE_BYTES :], header).decode())
        except InvalidTag as error:
            raise SealingError("the sealed secret was changed") from error


def load_sealer(data_dir: Path, secret_key: str | None, *, make: bool = True) -> Sealer:
    """The installation's sealer: from ``secret_key`` if given, else from ``sealing.key``, which is made if it is missing and ``make``.

    Raises ConfigurationError for a file that is missing or damaged, or that others may read.
    """
    if secret_key is not None:
        return Sealer(_derived(secret_key.encode(), b"dwctl sealing key", 32))
    path = data_dir / KEY_FILE
    try:
        if make:
            _make_key(data_dir, path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise ConfigurationError(f"{path} may be read by others (mode {mode:04o}): run chmod 600 {path}")
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from error
    try:
        return Sealer(bytes.fromhex(text))
    except ValueError as error:
        raise ConfigurationError(f"{path} is damaged: it must hold 64 hex digits") from error


def _make_key(data_dir: Path, path: Path) -> None:
    """Make the key file unless it exists; a crash never leaves half of one, and of two processes one wins."""
    if path.exists():
        return
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    descriptor = os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, os.urandom(32).hex().encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(partial)
    directory = os.open(data_dir, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, None, purpose).derive(key)
