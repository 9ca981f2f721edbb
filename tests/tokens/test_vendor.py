"""The vendored files are those that build/vendor.json records."""

import json
from pathlib import Path

import pytest

from build import vendor


def test_the_tree_holds_the_recorded_files() -> None:
    assert vendor.main([]) == 0


def test_every_rank_file_is_recorded() -> None:
    recorded = {file["to"] for package in json.loads(vendor.LIST.read_text())["packages"] for file in package["files"]}
    ranks = vendor.ROOT / "dwctl" / "tokens" / "ranks"
    assert {str(path.relative_to(vendor.ROOT)) for path in ranks.iterdir()} <= recorded


def test_a_changed_or_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {"packages": [{"files": [{"to": "a", "sha256": "0" * 64}, {"to": "b", "sha256": "0" * 64}]}]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    (tmp_path / "a").write_text("changed")
    monkeypatch.setattr(vendor, "ROOT", tmp_path)
    monkeypatch.setattr(vendor, "LIST", tmp_path / "list.json")
    assert vendor.main([]) == 1
    assert capsys.readouterr().err.splitlines() == ["a is not the recorded file", "b is missing"]
