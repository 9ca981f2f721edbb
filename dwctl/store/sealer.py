"""The sealer of an installation, checked against the database that it belongs to."""

from pathlib import Path

from dwctl.errors import ConfigurationError
from dwctl.sealing import KEY_FILE, Sealer, load_sealer
from dwctl.store.store import Store
from dwctl.store.transaction import Tx

FINGERPRINT = "sealing_key_fingerprint"
"""The property that says which key the database was first used with."""

_KNOWN = "SELECT value FROM properties WHERE name = ?"


async def open_sealer(store: Store, data_dir: Path, secret_key: str | None) -> Sealer:
    """The sealer whose key this database was first used with; at the first use the key is made if need be.

    Raises ConfigurationError for a key that is missing, and for another one, which could open nothing that is stored.
    """
    found = await store.fetch(_KNOWN, [FINGERPRINT])
    if found:
        # Only the first start writes: the later ones go well with a database that takes no writes at the moment.
        return known_sealer(str(found[0]["value"]), data_dir, secret_key)
    sealer = load_sealer(data_dir, secret_key)

    async def remember(tx: Tx) -> str:
        await tx.execute(
            "INSERT INTO properties (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", [FINGERPRINT, sealer.fingerprint]
        )
        [row] = await tx.fetch(_KNOWN, [FINGERPRINT])
        return str(row["value"])

    return known_sealer(await store.write(remember), data_dir, secret_key)


def known_sealer(fingerprint: str, data_dir: Path, secret_key: str | None) -> Sealer:
    """The sealer of a database whose key has this fingerprint. Raises ConfigurationError if the key is missing, or is another."""
    file = data_dir / KEY_FILE
    if secret_key is None and not file.exists():
        raise ConfigurationError(
            f"{file} is missing: the credentials in the database are sealed with this key (fingerprint {fingerprint}). "
            "Put the file back, or restore it from a backup"
        )
    sealer = load_sealer(data_dir, secret_key, make=False)
    if sealer.fingerprint != fingerprint:
        origin = "secret_key" if secret_key is not None else str(file)
        raise ConfigurationError(
            f"the database was sealed with another key (fingerprint {fingerprint}) than {origin} (fingerprint {sealer.fingerprint}); "
            "give the original key, or restore it from a backup"
        )
    return sealer
