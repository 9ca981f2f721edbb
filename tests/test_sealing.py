"""Sealed secrets: round trips, foreign keys, tampering, and the key file."""

import copy
import json
import logging
import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.errors import ConfigurationError
from dwctl.sealing import Sealer, SealingError, Secret, load_sealer

ONE, OTHER = Sealer(b"1" * 32), Sealer(b"2" * 32)


@given(st.text())
def test_round_trip(text: str) -> None:
    blob = ONE.seal(text)
    assert ONE.unseal(blob).reveal() == text
    assert ONE.unseal(ONE.seal(Secret(text))) == Secret(text)
    assert ONE.seal(text) != blob


@given(st.text(), st.data())
def test_a_changed_blob_is_refused(text: str, data: st.DataObject) -> None:
    blob = bytearray(ONE.seal(text))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealingError):
        ONE.unseal(bytes(blob))


@given(st.binary(max_size=64))
def test_garbage_is_refused(blob: bytes) -> None:
    with pytest.raises(SealingError):
        ONE.unseal(blob)


def test_another_key_is_named() -> None:
    with pytest.raises(SealingError, match=ONE.fingerprint[:16]):
        OTHER.unseal(ONE.seal("x"))
    assert ONE.fingerprint != OTHER.fingerprint


def test_a_secret_does_not_leak(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("sk-canary")
    logging.getLogger("test").warning("%s %r", secret, secret)
    shown = [f"{secret}", f"{secret!r:>40}", str(secret), repr(secret), repr([secret]), f"{secret}", caplog.text]
    assert not any("canary" in text for text in shown)
    for serialise in (json.dumps, pickle.dumps, copy.deepcopy, vars):
        with pytest.raises(TypeError):
            serialise(secret)
    assert secret.reveal() == "sk-canary"
    assert bool(secret)
    assert not Secret("")


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    first = load_sealer(data_dir, None)
    blob = first.seal("x")
    assert load_sealer(data_dir, None).unseal(blob).reveal() == "x"
    key = data_dir / "sealing.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in data_dir.iterdir()] == ["sealing.key"]


def test_a_bad_key_file_is_named(tmp_path: Path) -> None:
    load_sealer(tmp_path, None)
    key = tmp_path / "sealing.key"
    key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_sealer(tmp_path, None)
    key.chmod(0o600)
    for damage in (b"", b"abc", b"zz" * 32, b"\xff" * 64):
        key.write_bytes(damage)
        with pytest.raises(ConfigurationError, match=r"sealing\.key"):
            load_sealer(tmp_path, None)


def test_a_configured_key_leaves_no_file(tmp_path: Path) -> None:
    blob = load_sealer(tmp_path, "correct horse battery staple").seal("x")
    assert load_sealer(tmp_path / "elsewhere", "correct horse battery staple").unseal(blob).reveal() == "x"
    assert list(tmp_path.iterdir()) == []
