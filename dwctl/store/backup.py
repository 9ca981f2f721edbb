"""Backup and restore of an installation: one tar file.

It holds, in this order, ``dwctl.db`` (an online copy; not with PostgreSQL, which has ``pg_dump``), the journal's segments,
``node_id``, and ``sealing.key.sealed``: the sealing key, encrypted under a key that scrypt (RFC 7914) makes of a passphrase.
``manifest.json`` comes last and has the SHA-256 of every member, so that a file that was cut short is noticed. Bodies are
not in it.

A running server deletes journal segments once the database has them; those that the copy of the database does not have yet
must be in the backup. So segments are held by hard links before the database is copied, and while it is.

Restoring replays nothing: the ledger does that at the next start, from the mark that the database holds, under the same
``node_id``.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dwctl import clock
from dwctl.errors import ConfigurationError
from dwctl.sealing import KEY_FILE
from dwctl.store.failures import StoreUnavailable
from dwctl.store.sealer import FINGERPRINT, known_sealer
from dwctl.store.store import DATABASE_FILE, database_path

FORMAT = 1
JOURNAL = "journal"
NODE = "node_id"
LOCK = "lock"
SEALED_KEY = "sealing.key.sealed"
MANIFEST = "manifest.json"

_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_MEMBER = re.compile(rf"{re.escape(DATABASE_FILE)}|{NODE}|{re.escape(SEALED_KEY)}|{JOURNAL}(/{_PART})+")
_LINK_SECONDS = 0.02
_SALT_BYTES = 16
_NONCE_BYTES = 12
_REPLACED = re.compile(rf"{JOURNAL}|{NODE}|{re.escape(KEY_FILE)}|demo\.key|bodies-\d{{8}}\.sqlite(-wal|-shm|-journal)?")
"""What belongs to one database in a data directory, beside the database itself."""
_SCRATCH = ".dwctl-scratch-"
NEW, OLD = "new", "old"
_BLOCK = 64 * 1024


class BackupError(ConfigurationError):
    """A backup cannot be made or used; the message says why and what to do."""


def backup(url: str | None, data_dir: Path, target: Path, passphrase: str, *, secret_key: str | None = None) -> list[str]:
    """Write ``target``, also while a server runs; what the user has to know or do besides, a sentence each.

    ``url`` as for ``Store.open``, ``secret_key`` as for ``open_sealer``. Raises BackupError, ConfigurationError (the sealing key
    is missing, or another), StoreUnavailable; then there is no ``target``.
    """
    if not passphrase:
        raise BackupError("a passphrase is needed: it protects the sealing key in the backup")
    if not data_dir.is_dir():
        raise BackupError(f"there is no data directory at {data_dir}")
    if target.exists():
        raise BackupError(f"{target} exists already")
    database = database_path(url, data_dir)
    try:
        _backup(database, data_dir, target, passphrase, secret_key)
    except OSError as error:
        raise BackupError(f"the backup could not be written: {error}") from error
    notes = []
    if database is None:
        notes.append(
            "The database is not in this file. Before `dwctl backup`, with dwctl stopped, run: "
            "pg_dump --format=custom --file=dwctl.pgdump URL (of the server itself, not of a pooler)"
        )
    if secret_key is not None:
        notes.append("The sealing key is not in this file, since it comes from secret_key or secret_key_file: keep that as well.")
    return notes


def restore(source: Path, data_dir: Path, passphrase: str, *, url: str | None = None, replace: bool = False) -> list[str]:
    """Lay out ``data_dir``, and the database of ``url``, as the backup has it; what the user has to know or do besides, a sentence each.

    Refuses a data directory that holds anything, unless ``replace``, and always one that a server uses. What is replaced is
    dwctl's own; other files stay. A wrong passphrase or a damaged file changes nothing. Raises BackupError, ConfigurationError.
    """
    database = database_path(url, data_dir)
    try:
        left = _restore(source, database, data_dir, passphrase, replace)
    except (OSError, tarfile.TarError) as error:
        raise BackupError(f"{source} could not be restored: {error}") from error
    notes = []
    if left:
        notes.append(f"Left as it was in {data_dir}: {', '.join(left)}.")
    if database is None:
        notes.append(
            "The database was not in this file. Before the first start run: "
            "pg_restore --clean --if-exists --dbname=DATABASE_URL dwctl.pgdump"
        )
    return notes


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A private folder in ``parent`` for as long as this lasts. What commands that were killed have left there is removed first."""
    for left in parent.glob(f"{_SCRATCH}*"):
        # The parent may be anybody's folder: what is not surely ours is nothing to touch.
        with contextlib.suppress(OSError):
            found = left.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                with _locked(left / LOCK, make=False):
                    _remove(left)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        with _locked(folder / LOCK, make=True):
            # It has this name only once it is locked, so that nobody takes it for one that was left.
            folder = folder.rename(parent / f"{_SCRATCH}{folder.name.removeprefix('.new-')}")
            yield folder
    finally:
        _remove(folder)


def _remove(scratch: Path) -> None:
    """Unless it is all that there is of the files that a restore was about to replace."""
    old = scratch / OLD
    if not old.is_dir() or not any(old.iterdir()):
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, *, make: bool) -> Iterator[None]:
    """Hold the lock of a file; ``make`` it if need be. Raises BlockingIOError if somebody else holds it, and OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if make else 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _backup(database: Path | None, data_dir: Path, target: Path, passphrase: str, secret_key: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Links lie where the journal is. What takes room is made beside the target: the disk of the data may be full.
    with _scratch(data_dir) as held, _scratch(target.parent) as scratch:
        links = _JournalLinks(data_dir / JOURNAL, held / JOURNAL)
        links.hold()
        if database is not None:
            with links.holding():
                fingerprint = _copy_database(database, scratch / DATABASE_FILE)
            links.hold()
            if fingerprint is not None:
                known_sealer(fingerprint, data_dir, secret_key)
        partial = scratch / target.name
        with open(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                writer = _ArchiveWriter(archive)
                if database is not None:
                    writer.add(DATABASE_FILE, scratch / DATABASE_FILE)
                for path in links.files():
                    writer.add(f"{JOURNAL}/{path.relative_to(held / JOURNAL)}", path)
                if (data_dir / NODE).exists():
                    writer.add(NODE, data_dir / NODE)
                if secret_key is None and (data_dir / KEY_FILE).exists():
                    writer.add_bytes(SEALED_KEY, _encrypted((data_dir / KEY_FILE).read_bytes(), passphrase))
                writer.add_manifest()
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, does not replace a file that has come into being meanwhile.
        os.link(partial, target)
        _sync_directory(target.parent)


def _copy_database(source: Path, target: Path) -> str | None:
    """Copy the database as it is at one moment; the fingerprint of its sealing key, or None if nothing was ever sealed."""
    if not source.exists():
        raise BackupError(f"there is no database at {source}")
    try:
        with contextlib.closing(sqlite3.connect(source, timeout=10)) as live, contextlib.closing(sqlite3.connect(target)) as copy:
            # In one step: with a snapshot of its own the copy is consistent, and writers go on.
            live.backup(copy)
            if copy.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise BackupError(f"the database {source} is damaged")
            if not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'properties'").fetchone():
                raise BackupError(f"{source} is not a database of dwctl")
            row = copy.execute("SELECT value FROM properties WHERE name = ?", [FINGERPRINT]).fetchone()
            return str(row[0]) if row else None
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise BackupError(f"there is no room for the backup, which takes twice the size of {source}, where it is to lie") from error
        raise StoreUnavailable(f"SQLite: {error}") from error


class _JournalLinks:
    """Hard links to every journal segment seen, which outlive the deletion of the segment."""

    def __init__(self, journal: Path, directory: Path) -> None:
        self._journal = journal
        self._directory = directory
        self._directory.mkdir()

    def hold(self) -> None:
        """Link what is there now."""
        for path in sorted(self._journal.rglob("*")) if self._journal.is_dir() else []:
            name = path.relative_to(self._journal)
            if path.is_dir() or not _MEMBER.fullmatch(f"{JOURNAL}/{name}"):
                continue
            link = self._directory / name
            link.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(path, link)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Go on linking in a thread: a segment that comes and goes meanwhile is kept too."""
        done = threading.Event()
        failures: list[OSError] = []

        def follow() -> None:
            try:
                while not done.wait(_LINK_SECONDS):
                    self.hold()
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=follow, name="journal links", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if failures:
            raise failures[0]

    def files(self) -> list[Path]:
        return sorted(path for path in self._directory.rglob("*") if path.is_file())


class _ArchiveWriter:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._sums: dict[str, str] = {}

    def add(self, name: str, path: Path) -> None:
        """Add a file as long as it is now, though it may grow or be cut meanwhile."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size if name == DATABASE_FILE else _written_size(file)
            member = self._member(name, size)
            reader = _Reader(file, size)
            self._archive.addfile(member, reader)  # type: ignore[arg-type]
            self._sums[name] = reader.sum.hexdigest()

    def add_bytes(self, name: str, content: bytes) -> None:
        self._archive.addfile(self._member(name, len(content)), io.BytesIO(content))
        self._sums[name] = hashlib.sha256(content).hexdigest()

    def add_manifest(self) -> None:
        manifest = {"format": FORMAT, "made_at": clock.to_rfc3339(clock.now_us()), "sha256": self._sums}
        content = json.dumps(manifest, indent=1).encode()
        self._archive.addfile(self._member(MANIFEST, len(content)), io.BytesIO(content))

    def _member(self, name: str, size: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.size = size
        member.mode = 0o600
        member.mtime = clock.now_us() // clock.MICROSECONDS
        return member


def _written_size(file: Any) -> int:
    """The size without most of the zeros of an allocated segment's unwritten rest (a record may end with a few)."""
    end: int = file.seek(0, os.SEEK_END)
    size = end
    while size > 0 and not any(_block(file, size - _BLOCK)):
        size -= _BLOCK
    file.seek(0)
    return min(end, max(size, 0) + _BLOCK)


def _block(file: Any, start: int) -> bytes:
    file.seek(max(start, 0))
    content: bytes = file.read(_BLOCK if start >= 0 else start + _BLOCK)
    return content


class _Reader:
    """Reads exactly ``size`` bytes, zeros where a file was truncated meanwhile, and sums them."""

    def __init__(self, file: Any, size: int) -> None:
        self._file = file
        self._left = size
        self.sum = hashlib.sha256()

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        content: bytes = self._file.read(size)
        content += bytes(size - len(content))
        self._left -= size
        self.sum.update(content)
        return content


def _restore(source: Path, database: Path | None, data_dir: Path, passphrase: str, replace: bool) -> list[str]:
    """The names of what is not dwctl's in the data directory."""
    made = not data_dir.exists()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir = data_dir.resolve()
    homes = [data_dir]
    if database is not None:
        database = database.resolve()
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        homes += [database.parent]
    try:
        with _exclusive(data_dir), contextlib.ExitStack() as stack:
            scratches = {home: stack.enter_context(_scratch(home)) for home in dict.fromkeys(homes)}
            present = [path for path in data_dir.iterdir() if _REPLACED.fullmatch(path.name)]
            if database is not None:
                names = [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
                present += [path for path in names if path.exists()]
            spared = {data_dir / LOCK, *scratches.values(), *present}
            if database is not None:
                spared.update(database.parents)
            others = sorted(path.name for path in data_dir.iterdir() if path not in spared)
            if (present or others) and not replace:
                shown = present[0] if present else data_dir / others[0]
                raise BackupError(f"{shown} is there already: restore into an empty folder, or replace what is there with --replace")
            if not present and any(not name.startswith(_SCRATCH) for name in others):
                raise BackupError(f"{data_dir} is not a data directory of dwctl: nothing in it is replaced")
            for scratch in scratches.values():
                for name in (NEW, OLD):
                    (scratch / name).mkdir(mode=0o700)
            file = scratches[database.parent] / NEW / database.name if database is not None else None
            _unpack(source, scratches[data_dir] / NEW, file, passphrase)
            moves = [(path, scratches[path.parent] / OLD / path.name) for path in present]
            moves += [(path, home / path.name) for home, scratch in scratches.items() for path in (scratch / NEW).iterdir()]
            _exchange(data_dir, moves)
            for home, scratch in scratches.items():
                _sync_directory(home)
                (scratch / OLD).rename(scratch / "replaced")
    except BaseException:
        if made:
            shutil.rmtree(data_dir, ignore_errors=True)
        raise
    return others


def _exchange(data_dir: Path, moves: list[tuple[Path, Path]]) -> None:
    """Put new files in the place of old ones: by renaming alone, and undone if that is interrupted or one of them fails.

    If everything stops in between, the old files are still in ``old`` of a scratch folder.
    """
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException as error:
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                target.rename(source)
        if not isinstance(error, OSError):
            raise
        raise BackupError(f"{data_dir} is as it was: {error.filename} cannot be moved ({error.strerror})") from error


@contextlib.contextmanager
def _exclusive(data_dir: Path) -> Iterator[None]:
    """The lock that a server holds on its data directory."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(data_dir / LOCK, make=True))
        except BlockingIOError as error:
            raise BackupError(f"{data_dir} is in use by a running dwctl: stop it first") from error
        yield


def _unpack(source: Path, scratch: Path, database: Path | None, passphrase: str) -> None:
    """Everything of the archive, checked, below ``scratch``, but the database as the file ``database``."""
    sums: dict[str, str] = {}
    manifest: _Manifest | None = None
    with tarfile.open(source, "r:") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or manifest is not None or not (member.name == MANIFEST or _MEMBER.fullmatch(member.name)):
                raise BackupError(f"{source} is not a backup of dwctl ({member.name!r} does not belong in one)")
            if member.name == MANIFEST:
                manifest = _read_manifest(source, content.read())
                continue
            if member.name in sums:
                raise BackupError(f"{source} is damaged: {member.name} is there twice")
            if member.name == DATABASE_FILE and database is None:
                raise BackupError(f"{source} holds a database of SQLite, and database.url is one of PostgreSQL: restore it without that")
            sums[member.name] = _write(content, database if member.name == DATABASE_FILE and database else scratch / member.name)
    if manifest is None:
        raise BackupError(f"{source} is not a whole backup of dwctl: its end is missing")
    if manifest.format != FORMAT:
        raise BackupError(f"{source} has format {manifest.format}, which this version does not know")
    if manifest.sha256 != sums:
        raise BackupError(f"{source} is damaged: contents and checksums differ")
    if not sums:
        raise BackupError(f"{source} holds nothing to restore")
    if SEALED_KEY in sums:
        sealed = scratch / SEALED_KEY
        key = _decrypted(sealed.read_bytes(), passphrase)
        sealed.unlink()
        _write(io.BytesIO(key), scratch / KEY_FILE)
    if database is not None and DATABASE_FILE not in sums:
        raise BackupError(f"{source} was made of an installation on PostgreSQL: restore it with database.url set to that of its database")


class _Manifest(msgspec.Struct):
    format: int
    sha256: Any = None


def _read_manifest(source: Path, content: bytes) -> _Manifest:
    try:
        return msgspec.json.decode(content, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BackupError(f"{source} is damaged: {MANIFEST} cannot be read") from None


def _write(content: Any, path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    total = hashlib.sha256()
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
        while chunk := content.read(1 << 20):
            total.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return total.hexdigest()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _passphrase_key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=2**15, r=8, p=1).derive(passphrase.encode())


def _encrypted(key: bytes, passphrase: str) -> bytes:
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    return salt + nonce + AESGCM(_passphrase_key(passphrase, salt)).encrypt(nonce, key, None)


def _decrypted(blob: bytes, passphrase: str) -> bytes:
    salt, nonce = blob[:_SALT_BYTES], blob[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
    if len(nonce) < _NONCE_BYTES:
        raise BackupError(f"the backup is damaged: {SEALED_KEY} is too short")
    try:
        return AESGCM(_passphrase_key(passphrase, salt)).decrypt(nonce, blob[_SALT_BYTES + _NONCE_BYTES :], None)
    except InvalidTag as error:
        raise BackupError("the passphrase is not the one that this backup was made with") from error
