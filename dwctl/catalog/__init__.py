"""What can be called: endpoints, the models they host under their aliases, and what those cost.

In: provider model lists (fetched through ``dwctl.outbound``), wished-for tariffs, and what the store holds. Out: plain
decisions: which models to create, revive, retire or delete; which prices to keep, close and insert; which fields a
caller may see. Rows are read and written by the operations above; this room decides.
"""

from dwctl.catalog.discovery import Credentials, DiscoveryError, ProviderModel, describe, discover
from dwctl.catalog.model_types import MODEL_TYPES, ModelType, guess_model_type
from dwctl.catalog.resync import HeldModel, Resync, plan_resync
from dwctl.catalog.tariffs import (
    InForce,
    Purpose,
    TariffTerms,
    plan_tariffs,
    price_per_million,
    price_per_unit,
)
from dwctl.catalog.visibility import Rights, hidden_fields

__all__ = [
    "MODEL_TYPES",
    "Credentials",
    "DiscoveryError",
    "HeldModel",
    "InForce",
    "ModelType",
    "ProviderModel",
    "Purpose",
    "Resync",
    "Rights",
    "TariffTerms",
    "describe",
    "discover",
    "guess_model_type",
    "hidden_fields",
    "plan_resync",
    "plan_tariffs",
    "price_per_million",
    "price_per_unit",
]
