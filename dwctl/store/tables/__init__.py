"""Every table of the store, a module an area. Wall times are microseconds since the epoch (UTC) in BIGINT columns."""

from dwctl.store.tables.accounts import ApiKey, Group, PasswordReset, Session, User, UserGroup
from dwctl.store.tables.bodies import StoredBody
from dwctl.store.tables.catalog import DeployedModel, Endpoint, ModelGroup, Tariff
from dwctl.store.tables.ledger import (
    AnonymousRefusal,
    Balance,
    JournalMark,
    KeySpend,
    RequestHour,
    RequestRow,
    Transaction,
    UsageDay,
    UsageHour,
)
from dwctl.store.tables.system import AuditRow, Change, Property

__all__ = [
    "AnonymousRefusal",
    "ApiKey",
    "AuditRow",
    "Balance",
    "Change",
    "DeployedModel",
    "Endpoint",
    "Group",
    "JournalMark",
    "KeySpend",
    "ModelGroup",
    "PasswordReset",
    "Property",
    "RequestHour",
    "RequestRow",
    "Session",
    "StoredBody",
    "Tariff",
    "Transaction",
    "UsageDay",
    "UsageHour",
    "User",
    "UserGroup",
]
