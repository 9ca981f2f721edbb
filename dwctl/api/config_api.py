"""What a client should know about this installation: ``/admin/api/v1/config``. No setting that is a secret is here."""

import msgspec
from msgspec import UNSET, UnsetType

from dwctl.api.context import Context
from dwctl.doorway import Authenticated, Route, route

ROUTES: list[Route] = []


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``strict_mode`` is false: paths beyond the known ones are passed to the model's endpoint."""

    strict_mode: bool = False


class ConfigView(msgspec.Struct, kw_only=True):
    """Without a value ``title`` and ``ai_api_base_url`` are left out, and the others null."""

    region: str | None
    organization: str | None
    payment_enabled: bool = False
    docs_url: str | None
    docs_jsonl_url: str | None
    title: str | UnsetType = UNSET
    ai_api_base_url: str | UnsetType = UNSET
    onwards: RouterSettings = RouterSettings()


@route(ROUTES, "GET", "/admin/api/v1/config", policy=Authenticated(), returns=ConfigView, summary="About this installation", tag="config")
async def get_config(context: Context) -> ConfigView:
    """Region, organization and addresses as configured under ``metadata``."""
    metadata = context.services.config.metadata
    return ConfigView(
        region=metadata.region,
        organization=metadata.organization,
        docs_url=metadata.docs_url,
        docs_jsonl_url=metadata.docs_jsonl_url,
        title=UNSET if metadata.title is None else metadata.title,
        ai_api_base_url=UNSET if metadata.ai_api_base_url is None else metadata.ai_api_base_url,
    )
