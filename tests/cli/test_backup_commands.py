"""``dwctl backup`` and ``dwctl restore`` as commands: passphrases, refusals, and the balance to the nano."""

import sqlite3
from pathlib import Path

from tests.appliance import Appliance, model, setup

PHRASE = "a passphrase of this test"


def balances(data_dir: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{data_dir}/dwctl.db?mode=ro", uri=True)
    try:
        return connection.execute("SELECT * FROM account_balances ORDER BY 1").fetchall()
    finally:
        connection.close()


def test_a_running_server_is_saved_and_restored_elsewhere(tmp_path: Path) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text(PHRASE + "\n")
    target = tmp_path / "saved.dwctl"
    old, new = Appliance(tmp_path / "old"), Appliance(tmp_path / "new")
    try:
        old.apply(setup("http://127.0.0.1:9/v1", [model("m", "x")], credit="12.345678901"))
        old.start()
        done = old.command("backup", str(target), "--passphrase-file", str(phrase))
        assert f"Wrote {target}" in done.stdout
        again = old.command("backup", str(target), "--passphrase-file", str(phrase), check=False)
        assert (again.returncode, "exists" in again.stderr) == (1, True)
        in_use = old.command("restore", str(target), "--replace", "--passphrase-file", str(phrase), check=False)
        assert in_use.returncode == 1
        assert "Traceback" not in in_use.stderr
        assert old.stop() == 0
        assert new.command("restore", str(target), "--passphrase-file", str(phrase)).returncode == 0
        assert balances(new.data_dir) == balances(old.data_dir) != []
        refused = new.command("restore", str(target), "--passphrase-file", str(phrase), check=False)
        assert (refused.returncode, "--replace" in refused.stderr) == (1, True)
        new.start()
        assert new.get("/readyz") == 200
        assert new.stop() == 0
    finally:
        old.close()
        new.close()


def test_a_wrong_or_missing_passphrase_changes_nothing(tmp_path: Path) -> None:
    appliance = Appliance(tmp_path)
    appliance.apply(setup("http://127.0.0.1:9/v1", []))
    target = tmp_path / "saved.dwctl"
    missing = appliance.command("backup", str(target), check=False)
    assert (missing.returncode, "passphrase is needed" in missing.stderr) == (2, True)
    assert not target.exists()
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(PHRASE)
    wrong.write_bytes(b"\xff\xfe")
    unreadable = appliance.command("backup", str(target), "--passphrase-file", str(wrong), check=False)
    assert (unreadable.returncode, "not UTF-8" in unreadable.stderr) == (2, True)
    wrong.write_text("not it")
    appliance.command("backup", str(target), "--passphrase-file", str(right))
    other = Appliance(tmp_path / "other")
    done = other.command("restore", str(target), "--passphrase-file", str(wrong), check=False)
    assert done.returncode == 1
    assert "passphrase" in done.stderr
    assert not other.data_dir.exists() or list(other.data_dir.iterdir()) == []
