"""A stored endpoint: finding it, and how its provider is authenticated with."""

from dwctl import catalog
from dwctl.errors import not_found
from dwctl.operations.rows import canonical
from dwctl.sealing import Sealer
from dwctl.store import Tx
from dwctl.store.tables import Endpoint


async def live_endpoint(endpoint_id: str, tx: Tx | None = None) -> Endpoint:
    """The endpoint, read outside a transaction unless one is given. Raises GatewayError 404."""
    known = canonical(endpoint_id)
    row = known and await Endpoint.get_or_none(id=known, deleted_at=None, using_db=tx.orm if tx else None)
    if not row:
        raise not_found(f"Endpoint with ID {endpoint_id} not found")
    return row


def credentials_of(row: Endpoint, sealer: Sealer) -> catalog.Credentials:
    """How the endpoint's provider is authenticated with."""
    secret = sealer.unseal(bytes(row.sealed_credential)) if row.sealed_credential else None
    return catalog.Credentials(secret, row.auth_header_name, row.auth_header_prefix)
