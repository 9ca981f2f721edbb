"""The build stops at a library whose licence it cannot find."""

from pathlib import Path

import pytest

from build import licences


def test_a_library_of_nobody_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"The licence of .*/libown\.so was not found"):
        licences.packages_of([("libown.so", str(tmp_path / "libown.so"), "BINARY")])


def test_a_package_without_its_copyright_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = licences._owner(Path("/bin/sh"))
    if owner is None:
        pytest.skip("not a system with dpkg")
    monkeypatch.setattr(licences, "DOCUMENTS", tmp_path)
    with pytest.raises(SystemExit, match=f"{owner[0]}/copyright is missing"):
        licences.packages_of([("sh", "/bin/sh", "BINARY")])
