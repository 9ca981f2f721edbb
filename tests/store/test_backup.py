"""Backup and restore: what is in the file, what is refused, and that nothing is lost while a server goes on."""

import asyncio
import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from dwctl.errors import ConfigurationError
from dwctl.sealing import load_sealer
from dwctl.store import Store, Tx, open_sealer
from dwctl.store import backup as backup_module
from dwctl.store.backup import SEALED_KEY, BackupError, backup, restore
from dwctl.store.tables import Property
from tests.appliance import FROM_SOURCE, environment
from tests.conftest import small_disk
from tests.waiting import until

PASSPHRASE = "correct horse"
POSTGRESQL = "postgresql://nobody@127.0.0.1:1/none"
SEGMENT = b"\x01record\x00\x00" * 100 + bytes(1 << 20)


@pytest.fixture
async def installation(sqlite_url: str, data_dir: Path):
    """An open store with a property, a journal, a node id, a sealing key; what restoring must bring back."""
    store = await Store.open(None, data_dir)
    await put(store, "one", "1")
    (data_dir / "node_id").write_text("node-1")
    (data_dir / "journal").mkdir()
    (data_dir / "journal" / "0000000000000001.segment").write_bytes(SEGMENT)
    (data_dir / "journal" / "quarantine").mkdir()
    (data_dir / "journal" / "quarantine" / "000-5.bad").write_bytes(b"")
    load_sealer(data_dir, None)
    yield store
    await store.close()


async def put(store: Store, name: str, value: str) -> None:
    async def operation(tx: Tx) -> None:
        await Property.create(name=name, value=value, using_db=tx.orm)

    await store.write(operation)


def properties(data_dir: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(data_dir / "dwctl.db")) as connection:
        return dict(connection.execute("SELECT name, value FROM properties"))


async def test_round_trip_beside_a_running_store(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target, again = tmp_path / "file.dwctl", tmp_path / "again"
    blob = load_sealer(data_dir, None).seal("provider key")
    assert backup(None, data_dir, target, PASSPHRASE) == []
    await put(installation, "two", "2")
    assert restore(target, again, PASSPHRASE) == []
    assert properties(again) == {"one": "1"}
    assert (again / "node_id").read_text() == "node-1"
    segment = (again / "journal" / "0000000000000001.segment").read_bytes()
    assert segment.startswith(b"\x01record\x00\x00" * 100)
    assert not any(segment[1000:])
    assert (again / "journal" / "quarantine" / "000-5.bad").exists()
    assert load_sealer(again, None).unseal(blob).reveal() == "provider key"
    assert stat.S_IMODE((again / "dwctl.db").stat().st_mode) == 0o600
    assert target.stat().st_size < 600_000
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in data_dir.iterdir() if path.name.startswith(".")) == []
    store = await Store.open(None, again)
    await put(store, "three", "3")
    await store.close()


async def test_the_key_is_not_in_the_file_in_clear(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "file.dwctl"
    backup(None, data_dir, target, PASSPHRASE)
    key = (data_dir / "sealing.key").read_text().strip()
    content = target.read_bytes()
    assert key.encode() not in content
    assert bytes.fromhex(key) not in content


async def test_a_wrong_passphrase_changes_nothing(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target, again, other = tmp_path / "file.dwctl", tmp_path / "again", tmp_path / "other"
    backup(None, data_dir, target, PASSPHRASE)
    with pytest.raises(BackupError, match="passphrase"):
        restore(target, again, "wrong")
    assert not again.exists()
    other.mkdir()
    (other / "dwctl.db").write_bytes(b"precious")
    with pytest.raises(BackupError, match="passphrase"):
        restore(target, other, "wrong", replace=True)
    assert (other / "dwctl.db").read_bytes() == b"precious"
    with pytest.raises(BackupError, match="passphrase"):
        backup(None, data_dir, tmp_path / "empty", "")


async def test_a_directory_in_use_is_refused(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target, again = tmp_path / "file.dwctl", tmp_path / "again"
    backup(None, data_dir, target, PASSPHRASE)
    again.mkdir()
    (again / "node_id").write_text("another")
    with pytest.raises(BackupError, match="--replace"):
        restore(target, again, PASSPHRASE)
    with (again / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="running"):
            restore(target, again, PASSPHRASE, replace=True)
    assert (again / "node_id").read_text() == "another"
    restore(target, again, PASSPHRASE, replace=True)
    assert (again / "node_id").read_text() == "node-1"
    assert properties(again) == {"one": "1"}


async def test_what_is_not_dwctls_stays(installation: Store, data_dir: Path) -> None:
    target = data_dir / "backups" / "file.dwctl"
    backup(None, data_dir, target, PASSPHRASE)
    await installation.close()
    theirs, ours = (
        ["dwctl.yaml", "dwctl.db.before-0002"],
        ["bodies-20260101.sqlite", "bodies-20260101.sqlite-wal", "demo.key", "dwctl.db-wal"],
    )
    for name in theirs + ours:
        (data_dir / name).write_bytes(b"x")
    [note] = restore(target, data_dir, PASSPHRASE, replace=True)
    assert note == f"Left as it was in {data_dir}: backups, dwctl.db.before-0002, dwctl.yaml."
    assert target.exists()
    assert all((data_dir / name).read_bytes() == b"x" for name in theirs)
    assert not any((data_dir / name).exists() for name in ours)
    assert properties(data_dir) == {"one": "1"}


async def test_a_database_elsewhere_comes_back_to_its_place(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    await installation.close()
    elsewhere, target = tmp_path / "disk" / "x.db", tmp_path / "file.dwctl"
    elsewhere.parent.mkdir()
    (data_dir / "dwctl.db").rename(elsewhere)
    url = f"sqlite://{elsewhere}"
    backup(url, data_dir, target, PASSPHRASE)
    (elsewhere.parent / "x.db-wal").write_bytes(b"of another database")
    (elsewhere.parent / "photo.jpg").write_bytes(b"x")
    elsewhere.write_bytes(b"damaged")
    with pytest.raises(BackupError, match=r"x\.db is there already"):
        restore(target, tmp_path / "again", PASSPHRASE, url=url)
    assert restore(target, tmp_path / "again", PASSPHRASE, url=url, replace=True) == []
    assert sorted(path.name for path in elsewhere.parent.iterdir()) == ["photo.jpg", "x.db"]
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["journal", "lock", "node_id", "sealing.key"]
    with contextlib.closing(sqlite3.connect(elsewhere)) as connection:
        assert connection.execute("SELECT * FROM properties").fetchall() == [("one", "1")]


async def test_a_backup_of_the_other_kind_of_database_is_refused(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    sqlite, postgresql = tmp_path / "sqlite.dwctl", tmp_path / "postgresql.dwctl"
    backup(None, data_dir, sqlite, PASSPHRASE)
    backup(POSTGRESQL, data_dir, postgresql, PASSPHRASE)
    with pytest.raises(BackupError, match="holds a database of SQLite"):
        restore(sqlite, tmp_path / "again", PASSPHRASE, url=POSTGRESQL)
    with pytest.raises(BackupError, match="was made of an installation on PostgreSQL"):
        restore(postgresql, tmp_path / "again", PASSPHRASE)
    assert not (tmp_path / "again").exists()


async def test_a_backup_without_the_key_of_its_database_is_refused(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    await open_sealer(installation, data_dir, None)
    target, key = tmp_path / "file.dwctl", data_dir / "sealing.key"
    saved = key.read_bytes()
    key.unlink()
    with pytest.raises(ConfigurationError, match=r"sealing\.key is missing"):
        backup(None, data_dir, target, PASSPHRASE)
    load_sealer(data_dir, None)
    with pytest.raises(ConfigurationError, match="sealed with another key"):
        backup(None, data_dir, target, PASSPHRASE)
    with pytest.raises(ConfigurationError, match="than secret_key"):
        backup(None, data_dir, target, PASSPHRASE, secret_key="a text that is not the key")
    assert not target.exists()
    key.write_bytes(saved)
    assert backup(None, data_dir, target, PASSPHRASE) == []


async def test_a_key_that_is_configured_is_not_in_the_file(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    text, target = "a secret key for tests only", tmp_path / "file.dwctl"
    store = await Store.open(None, data_dir)
    await open_sealer(store, data_dir, text)
    await store.close()
    load_sealer(data_dir, None)
    [note] = backup(None, data_dir, target, PASSPHRASE, secret_key=text)
    assert "it comes from secret_key" in note
    restore(target, tmp_path / "again", PASSPHRASE)
    assert not (tmp_path / "again" / "sealing.key").exists()


async def test_a_full_disk_of_the_data_can_be_saved_and_one_of_backups_is_named(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", "2m") as full:
        (full / "dwctl.db").write_bytes((data_dir / "dwctl.db").read_bytes())
        # As it is beside a running server.
        store = await Store.open(None, full)
        with contextlib.suppress(OSError), (full / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(BackupError, match="no room for the backup"):
            backup(None, data_dir, full / "file.dwctl", PASSPHRASE)
        assert not (full / "file.dwctl").exists()
        backup(None, full, tmp_path / "file.dwctl", PASSPHRASE)
        assert list(full.glob(".*")) == []
        await store.close()
    restore(tmp_path / "file.dwctl", tmp_path / "again", PASSPHRASE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_backup_that_is_ended_leaves_nothing_for_good(sqlite_url: str, data_dir: Path, tmp_path: Path, number: signal.Signals) -> None:
    target, key = tmp_path / "backups" / "file.dwctl", data_dir / "sealing.key"
    # It waits where the database is copied and the key is about to be read.
    os.mkfifo(key, 0o600)
    command = [*FROM_SOURCE, "backup", str(target), "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, env=environment(DWCTL_PASSPHRASE=PASSPHRASE), stderr=subprocess.DEVNULL)
    try:
        with key.open("wb"):
            left = [*data_dir.glob(".*"), *target.parent.iterdir()]
            assert len(left) == 2
            process.send_signal(number)
            assert process.wait(30) == (143 if number == signal.SIGTERM else -number)
    finally:
        process.kill()
        process.wait()
    assert all(path.exists() == (number == signal.SIGKILL) for path in left)
    key.unlink()
    backup(None, data_dir, target, PASSPHRASE)
    assert list(target.parent.iterdir()) == [target]
    assert list(data_dir.glob(".*")) == []


async def test_a_restore_that_is_interrupted_undoes_what_it_has_done(
    installation: Store, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    backup(None, data_dir, target, PASSPHRASE)
    await put(installation, "two", "2")
    await installation.close()
    rename = Path.rename

    def interrupted(self: Path, to: Path) -> Path:
        moved = rename(self, to)
        if self.parent.name == "new" and self.name == "node_id":
            raise SystemExit(143)
        return moved

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(SystemExit):
        restore(target, data_dir, PASSPHRASE, replace=True)
    assert properties(data_dir) == {"one": "1", "two": "2"}
    assert list(data_dir.glob(".*")) == []


async def test_files_that_a_killed_restore_has_set_aside_are_kept(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    aside, rest = data_dir / ".dwctl-scratch-aside", data_dir / ".dwctl-scratch-rest"
    for folder in (aside / "old", rest / "old", rest / "new"):
        folder.mkdir(parents=True)
    for folder in (aside, rest):
        (folder / "lock").touch()
    (aside / "old" / "dwctl.db").write_bytes(b"precious")
    (rest / "new" / "dwctl.db").write_bytes(b"a copy")
    target = tmp_path / "backup"
    backup(None, data_dir, target, PASSPHRASE)
    assert not rest.exists()
    await installation.close()
    [note] = restore(target, data_dir, PASSPHRASE, replace=True)
    assert ".dwctl-scratch-aside" in note
    assert (aside / "old" / "dwctl.db").read_bytes() == b"precious"
    for path in data_dir.iterdir():  # as it is if the restore is killed when everything old was set aside
        if path != aside:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    restore(target, data_dir, PASSPHRASE, replace=True)
    assert properties(data_dir) == {"one": "1"}


async def test_what_lies_beside_the_backup_is_not_touched(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    """Folders that look like ours, a data directory among them, and links that a stranger has put there."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for name in (".dwctl-data", ".dwctl-precious", ".dwctl-scratch-precious"):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_text("precious")
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (home / ".dwctl-scratch-linked").symlink_to(elsewhere)
    (home / ".dwctl-scratch-trap").mkdir()
    (home / ".dwctl-scratch-trap" / "lock").symlink_to(tmp_path / "made by the backup")
    before = sorted(home.rglob("*"))
    backup(None, data_dir, home / "file.dwctl", PASSPHRASE)
    assert sorted(home.rglob("*")) == sorted([*before, home / "file.dwctl"])
    assert (elsewhere / "lock").exists()
    assert not (tmp_path / "made by the backup").exists()


async def test_a_database_in_a_folder_of_the_data_directory_is_restored_there(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target, again = tmp_path / "backup", tmp_path / "again"
    backup(None, data_dir, target, PASSPHRASE)
    url = f"sqlite://{again}/db/x.db"
    restore(target, again, PASSPHRASE, url=url)
    assert (again / "db" / "x.db").exists()
    restore(target, again, PASSPHRASE, url=url, replace=True)
    with pytest.raises(BackupError, match="is there already"):
        restore(target, again, PASSPHRASE, url=url)


async def test_an_existing_target_is_kept(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "file.dwctl"
    target.write_text("precious")
    with pytest.raises(BackupError, match="exists"):
        backup(None, data_dir, target, PASSPHRASE)
    assert target.read_text() == "precious"


async def test_damaged_and_foreign_files_are_refused(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "file.dwctl"
    backup(None, data_dir, target, PASSPHRASE)
    content = target.read_bytes()
    for number, damaged in enumerate(
        [b"", b"not a tar file" * 100, content[: len(content) // 2], content.replace(b"record", b"rekord", 1), content[:-20480]]
    ):
        broken = tmp_path / f"broken-{number}"
        broken.write_bytes(damaged)
        with pytest.raises(BackupError):
            restore(broken, tmp_path / "again", PASSPHRASE)
        assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "journal/../../evil", "journal/.hidden/../../x", "evil", "lock"])
async def test_members_stay_inside(name: str, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    with tarfile.open(forged, "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BackupError, match="not a backup"):
        restore(forged, tmp_path / "again", PASSPHRASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forged"]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("manifest", "members", "message"),
    [
        (b"{", {}, "manifest.json cannot be read"),
        (b"[1]", {}, "manifest.json cannot be read"),
        (b"\xff\xfe", {}, "manifest.json cannot be read"),
        (b"[" * 5_000, {}, "manifest.json cannot be read"),
        (b'{"format": 2}', {}, "has format 2"),
        (b'{"format": 1, "sha256": {}}', {}, "holds nothing to restore"),
        (json.dumps({"format": 1, "sha256": {SEALED_KEY: digest(b"x")}}).encode(), {SEALED_KEY: b"x"}, f"{SEALED_KEY} is too short"),
    ],
)
async def test_parts_that_are_damaged_are_named(tmp_path: Path, manifest: bytes, members: dict[str, bytes], message: str) -> None:
    target = tmp_path / "saved.dwctl"
    with tarfile.open(target, "w") as archive:
        for name, content in {**members, "manifest.json": manifest}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(BackupError, match=message):
        restore(target, tmp_path / "new", "phrase")
    assert not (tmp_path / "new").exists()


async def test_a_symbolic_link_is_no_member(tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    link = tarfile.TarInfo("node_id")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(forged, "w") as archive:
        archive.addfile(link)
    with pytest.raises(BackupError, match="not a backup"):
        restore(forged, tmp_path / "again", PASSPHRASE)


async def test_segments_that_go_while_the_database_is_copied_are_kept(
    installation: Store, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has not what the server drains after it; the segments that held it are deleted before the journal is read."""
    journal = data_dir / "journal"
    copying, drained = threading.Event(), threading.Event()
    copy = backup_module._copy_database

    def slow_copy(source: Path, target: Path) -> None:
        copy(source, target)
        copying.set()
        assert drained.wait(30)

    monkeypatch.setattr(backup_module, "_copy_database", slow_copy)
    task = asyncio.create_task(asyncio.to_thread(backup, None, data_dir, tmp_path / "file.dwctl", PASSPHRASE))
    assert await asyncio.to_thread(copying.wait, 30)
    second = journal / "0000000000000002.segment"
    second.write_bytes(b"second")
    (journal / "0000000000000001.segment").unlink()
    await until(lambda: second.stat().st_nlink > 1)
    second.unlink()
    (journal / "0000000000000003.segment").write_bytes(b"third")
    drained.set()
    await task
    restore(tmp_path / "file.dwctl", tmp_path / "again", PASSPHRASE)
    names = sorted(path.name for path in (tmp_path / "again" / "journal").glob("*.segment"))
    assert names == [f"{number:016d}.segment" for number in (1, 2, 3)]


async def test_postgresql_is_left_to_pg_dump(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "journal").mkdir()
    (data_dir / "journal" / "0000000000000001.segment").write_bytes(b"x")
    (data_dir / "node_id").write_text("node-1")
    target, again = tmp_path / "file.dwctl", tmp_path / "again"
    notes = backup(POSTGRESQL, data_dir, target, PASSPHRASE, secret_key="a secret key for tests only")
    assert "pg_dump" in notes[0]
    assert "secret_key" in notes[1]
    [note] = restore(target, again, PASSPHRASE, url=POSTGRESQL)
    assert "pg_restore" in note
    assert sorted(path.name for path in again.iterdir()) == ["journal", "lock", "node_id"]


async def test_no_database_and_no_directory(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no data directory"):
        backup(None, tmp_path / "none", tmp_path / "file", PASSPHRASE)
    with pytest.raises(BackupError, match="no database"):
        backup(None, tmp_path, tmp_path / "file", PASSPHRASE)
    assert os.listdir(tmp_path) == []


async def test_a_folder_that_is_not_ours_is_left_alone(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    backup(None, data_dir, target, PASSPHRASE)
    foreign = tmp_path / "documents"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(BackupError, match="not a data directory"):
        restore(target, foreign, PASSPHRASE, replace=True)
    assert (foreign / "thesis.txt").read_text() == "years of work"


async def test_what_cannot_be_moved_leaves_everything_as_it_was(
    installation: Store, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    backup(None, data_dir, target, PASSPHRASE)
    await installation.close()

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in data_dir.iterdir() if path.is_file() and path.name != "lock"}

    before = files()
    rename = Path.rename

    def stubborn(self: Path, to: Path) -> Path:
        if self.parent.name == "new" and self.name == "journal":
            raise PermissionError(1, "Operation not permitted", str(self))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(BackupError, match="is as it was"):
        restore(target, data_dir, PASSPHRASE, replace=True)
    assert files() == before
