"""What a caller of the store must be ready for."""


class StoreUnavailable(Exception):
    """The database cannot be reached, is locked by someone else, or is full or damaged; nothing is wrong with the caller.

    After a lost connection the outcome of a write can be unknown (the answer to COMMIT was lost), so that whoever tries
    again must be idempotent.
    """


class StoreUnusable(StoreUnavailable):
    """Waiting does not help: the file is damaged, or is no database, or this user may not open it."""


class SchemaTooNew(Exception):
    """The database was made by a newer version of the program, which must not be written by this one."""
