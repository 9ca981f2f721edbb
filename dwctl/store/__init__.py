"""The store: tables, migrations, connections, ``Store.write``, change notifications, bodies, backup.

In: operations (functions over a transaction) and queries, with ``?`` placeholders on SQLite and PostgreSQL alike. Out:
rows, and the news of what changed. Nothing above this room knows which database it is.
"""

from dwctl.store.bodies import Bodies, BodyStore
from dwctl.store.changes import ChangeRow, Changes
from dwctl.store.failures import SchemaTooNew, StoreUnavailable, StoreUnusable
from dwctl.store.sealer import open_sealer
from dwctl.store.store import Store
from dwctl.store.transaction import Row, Tx

__all__ = [
    "Bodies",
    "BodyStore",
    "ChangeRow",
    "Changes",
    "Row",
    "SchemaTooNew",
    "Store",
    "StoreUnavailable",
    "StoreUnusable",
    "Tx",
    "open_sealer",
]
