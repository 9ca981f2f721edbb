"""A database keeps to the sealing key that it was first used with."""

from pathlib import Path

import pytest

from dwctl.errors import ConfigurationError
from dwctl.store import Store, open_sealer

KEY = "correct horse battery staple"


async def test_the_first_key_is_the_key(store: Store, tmp_path: Path) -> None:
    blob = (await open_sealer(store, tmp_path, KEY)).seal("x")
    assert (await open_sealer(store, tmp_path, KEY)).unseal(blob).reveal() == "x"
    with pytest.raises(ConfigurationError, match="another key") as refused:
        await open_sealer(store, tmp_path, "another key that is long enough")
    assert KEY not in str(refused.value)


async def test_a_key_is_made_at_the_first_use_alone(sqlite_url: str, store: Store, tmp_path: Path) -> None:
    blob = (await open_sealer(store, tmp_path, None)).seal("x")
    assert (await open_sealer(store, tmp_path, None)).unseal(blob).reveal() == "x"
    (tmp_path / "sealing.key").unlink()
    with pytest.raises(ConfigurationError, match=r"sealing\.key is missing"):
        await open_sealer(store, tmp_path, None)
    assert not (tmp_path / "sealing.key").exists()
