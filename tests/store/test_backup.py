"""Backup and restore: what is in the file, what is refused, and that nothing is lost while a server goes on."""

import asyncio
import contextlib
import fcntl
import hashlib
import io
import json
import os
import sqlite3
import stat
import tarfile
import threading
from pathlib import Path

import pytest

from dwctl.sealing import load_sealer
from dwctl.store import Store, Tx
from dwctl.store import backup as backup_module
from dwctl.store.backup import SEALED_KEY, BackupError, backup, restore
from dwctl.store.tables import Property
from tests.waiting import until

PASSPHRASE = "correct horse"
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
    assert await backup(None, data_dir, target, PASSPHRASE) == []
    await put(installation, "two", "2")
    assert await restore(target, again, PASSPHRASE) == []
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
    await backup(None, data_dir, target, PASSPHRASE)
    key = (data_dir / "sealing.key").read_text().strip()
    content = target.read_bytes()
    assert key.encode() not in content
    assert bytes.fromhex(key) not in content


async def test_a_wrong_passphrase_changes_nothing(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target, again, other = tmp_path / "file.dwctl", tmp_path / "again", tmp_path / "other"
    await backup(None, data_dir, target, PASSPHRASE)
    with pytest.raises(BackupError, match="passphrase"):
        await restore(target, again, "wrong")
    assert not again.exists()
    other.mkdir()
    (other / "dwctl.db").write_bytes(b"precious")
    with pytest.raises(BackupError, match="passphrase"):
        await restore(target, other, "wrong", replace=True)
    assert (other / "dwctl.db").read_bytes() == b"precious"
    with pytest.raises(BackupError, match="passphrase"):
        await backup(None, data_dir, tmp_path / "empty", "")


async def test_a_directory_in_use_is_refused(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target, again = tmp_path / "file.dwctl", tmp_path / "again"
    await backup(None, data_dir, target, PASSPHRASE)
    again.mkdir()
    (again / "old").mkdir()
    (again / "old" / "file").write_text("x")
    (again / "node_id").write_text("another")
    with pytest.raises(BackupError, match="--replace"):
        await restore(target, again, PASSPHRASE)
    with (again / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="running"):
            await restore(target, again, PASSPHRASE, replace=True)
    assert (again / "old" / "file").exists()
    await restore(target, again, PASSPHRASE, replace=True)
    assert not (again / "old").exists()
    assert properties(again) == {"one": "1"}


async def test_a_backup_is_not_replaced_by_itself(installation: Store, data_dir: Path) -> None:
    target = data_dir / "file.dwctl"
    await backup(None, data_dir, target, PASSPHRASE)
    with pytest.raises(BackupError, match="elsewhere"):
        await restore(target, data_dir, PASSPHRASE, replace=True)
    assert target.exists()


async def test_an_existing_target_is_kept(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "file.dwctl"
    target.write_text("precious")
    with pytest.raises(BackupError, match="exists"):
        await backup(None, data_dir, target, PASSPHRASE)
    assert target.read_text() == "precious"


async def test_damaged_and_foreign_files_are_refused(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "file.dwctl"
    await backup(None, data_dir, target, PASSPHRASE)
    content = target.read_bytes()
    for number, damaged in enumerate(
        [b"", b"not a tar file" * 100, content[: len(content) // 2], content.replace(b"record", b"rekord", 1), content[:-20480]]
    ):
        broken = tmp_path / f"broken-{number}"
        broken.write_bytes(damaged)
        with pytest.raises(BackupError):
            await restore(broken, tmp_path / "again", PASSPHRASE)
        assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "journal/../../evil", "journal/.hidden/../../x", "evil", "lock"])
async def test_members_stay_inside(name: str, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    with tarfile.open(forged, "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(BackupError, match="not a backup"):
        await restore(forged, tmp_path / "again", PASSPHRASE)
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
        await restore(target, tmp_path / "new", "phrase")
    assert not (tmp_path / "new").exists()


async def test_a_symbolic_link_is_no_member(tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    link = tarfile.TarInfo("node_id")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(forged, "w") as archive:
        archive.addfile(link)
    with pytest.raises(BackupError, match="not a backup"):
        await restore(forged, tmp_path / "again", PASSPHRASE)


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
    task = asyncio.create_task(backup(None, data_dir, tmp_path / "file.dwctl", PASSPHRASE))
    assert await asyncio.to_thread(copying.wait, 30)
    second = journal / "0000000000000002.segment"
    second.write_bytes(b"second")
    (journal / "0000000000000001.segment").unlink()
    await until(lambda: second.stat().st_nlink > 1)
    second.unlink()
    (journal / "0000000000000003.segment").write_bytes(b"third")
    drained.set()
    await task
    await restore(tmp_path / "file.dwctl", tmp_path / "again", PASSPHRASE)
    names = sorted(path.name for path in (tmp_path / "again" / "journal").glob("*.segment"))
    assert names == [f"{number:016d}.segment" for number in (1, 2, 3)]


async def test_postgresql_is_left_to_pg_dump(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "journal").mkdir()
    (data_dir / "journal" / "0000000000000001.segment").write_bytes(b"x")
    (data_dir / "node_id").write_text("node-1")
    target, again = tmp_path / "file.dwctl", tmp_path / "again"
    notes = await backup("postgresql://nobody@127.0.0.1:1/none", data_dir, target, PASSPHRASE)
    assert "pg_dump" in notes[0]
    assert "secret_key" in notes[1]
    [note] = await restore(target, again, PASSPHRASE)
    assert "pg_restore" in note
    assert sorted(path.name for path in again.iterdir()) == ["journal", "lock", "node_id"]


async def test_no_database_and_no_directory(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no data directory"):
        await backup(None, tmp_path / "none", tmp_path / "file", PASSPHRASE)
    with pytest.raises(BackupError, match="no database"):
        await backup(None, tmp_path, tmp_path / "file", PASSPHRASE)
    assert os.listdir(tmp_path) == []


async def test_a_folder_that_is_not_ours_is_left_alone(installation: Store, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    await backup(None, data_dir, target, PASSPHRASE)
    foreign = tmp_path / "documents"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(BackupError, match="not a data directory"):
        await restore(target, foreign, PASSPHRASE, replace=True)
    assert (foreign / "thesis.txt").read_text() == "years of work"


async def test_what_cannot_be_moved_leaves_everything_as_it_was(
    installation: Store, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup"
    await backup(None, data_dir, target, PASSPHRASE)
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
        await restore(target, data_dir, PASSPHRASE, replace=True)
    assert files() == before
