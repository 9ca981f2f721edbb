"""The sealer of an installation, checked against the database that it belongs to."""

from pathlib import Path

from dwctl.errors import ConfigurationError
from dwctl.sealing import Sealer, load_sealer
from dwctl.store.store import Store
from dwctl.store.transaction import Tx

_PROPERTY = "sealing_key_fingerprint"
_FINGERPRINT = "SELECT value FROM properties WHERE name = ?"


async def open_sealer(store: Store, data_dir: Path, secret_key: str | None) -> Sealer:
    """The sealer whose key this database was first used with.

    Raises ConfigurationError without a ``secret_key`` on PostgreSQL (nodes share it; a file would be one node's own), and for a
    key other than the first, which could open nothing that is stored.
    """
    if secret_key is None and store.dialect == "postgresql":
        raise ConfigurationError("secret_key (or secret_key_file) is needed with PostgreSQL: stored credentials are sealed with it")
    sealer = load_sealer(data_dir, secret_key)

    async def remember(tx: Tx) -> str:
        await tx.execute(
            "INSERT INTO properties (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", [_PROPERTY, sealer.fingerprint]
        )
        [row] = await tx.fetch(_FINGERPRINT, [_PROPERTY])
        return str(row["value"])

    # Only the first start writes: the later ones go well with a database that takes no writes at the moment.
    found = await store.fetch(_FINGERPRINT, [_PROPERTY])
    known = str(found[0]["value"]) if found else await store.write(remember)
    if known != sealer.fingerprint:
        origin = "secret_key" if secret_key is not None else str(data_dir / "sealing.key")
        raise ConfigurationError(
            f"the database was sealed with another key (fingerprint {known}) than {origin} (fingerprint {sealer.fingerprint}); "
            "give the original key, or restore it from a backup"
        )
    return sealer
