"""What a role may do: one table of (role, resource, operation), denying what it does not name.

Roles add up. An administrator (``is_admin``) passes every check. An operation ending in ``_all`` covers everybody's
resources, ``_own`` those of the actor; the two are granted separately.
"""

from typing import Literal, get_args

from dwctl.accounts.actors import Actor
from dwctl.config import ROLES, Role
from dwctl.errors import GatewayError, forbidden

Resource = Literal[
    "Users",
    "Groups",
    "Models",
    "CompositeModels",
    "Endpoints",
    "ApiKeys",
    "Analytics",
    "Requests",
    "Pricing",
    "ModelRateLimits",
    "Credits",
    "Probes",
    "Files",
    "Batches",
    "Webhooks",
    "System",
    "Organizations",
    "ToolSources",
    "Connections",
]
Operation = Literal[
    "create_all", "create_own", "read_all", "read_own", "update_all", "update_own", "delete_all", "delete_own", "system_access"
]

RESOURCES: tuple[Resource, ...] = get_args(Resource)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

_EVERYDAY: tuple[Operation, ...] = tuple(operation for operation in OPERATIONS if operation != "system_access")
_OWN: tuple[Operation, ...] = ("create_own", "read_own", "update_own", "delete_own")

GRANTS: dict[str, dict[Resource, tuple[Operation, ...]]] = {
    "PlatformManager": {resource: _EVERYDAY for resource in RESOURCES if resource != "Requests"},
    "StandardUser": {
        "Models": ("read_own",),
        "CompositeModels": ("read_own",),
        "ApiKeys": _OWN,
        "Users": ("read_own", "update_own"),
        "Requests": ("read_own",),
        "Analytics": ("read_own",),
        "Credits": ("read_own",),
        "Webhooks": _OWN,
        "Organizations": ("read_own", "update_own", "create_own"),
    },
    "RequestViewer": {
        "Requests": ("read_all", "read_own"),
        "Analytics": ("read_all", "read_own"),
        "Users": ("read_own",),
        "Groups": ("read_own",),
        "Credits": ("read_own",),
    },
    "BillingManager": {"Credits": _EVERYDAY, "Users": ("read_all",)},
    "BatchAPIUser": {"Files": ("create_own", "read_own", "delete_own"), "Batches": _OWN},
    "ConnectionsUser": {"Connections": _OWN, "Files": ("read_own",), "Batches": ("read_own",)},
    "BackgroundInferenceUser": {},
}
"""Role -> resource -> operations. ``BackgroundInferenceUser`` is a capability flag and grants nothing here."""

MEANINGS: dict[Role, str] = {
    "PlatformManager": "Manages endpoints, models, prices, users and groups; reads everybody's usage, but not their requests.",
    "StandardUser": "Calls the models of their groups, and has keys, requests and a balance of their own. Everybody has this role.",
    "RequestViewer": "Reads everybody's requests and usage, and changes nothing.",
    "BillingManager": "Reads everybody's balance and gives or takes credits.",
    "BatchAPIUser": "Opens nothing: this server has no batches.",
    "ConnectionsUser": "Opens nothing: this server has no sources of files.",
    "BackgroundInferenceUser": "Opens nothing: this server answers no requests in the background.",
}
"""Each role in a sentence."""
UNUSED: frozenset[Role] = frozenset({"BatchAPIUser", "ConnectionsUser", "BackgroundInferenceUser"})
"""Roles that open nothing. Programs and files that give them are understood."""

_OWN_OF: dict[Operation, Operation] = {
    "create_all": "create_own",
    "read_all": "read_own",
    "update_all": "update_own",
    "delete_all": "delete_own",
}


def allows(actor: Actor, resource: Resource, operation: Operation) -> bool:
    """Whether the actor may perform the operation on the resource."""
    if actor.is_admin:
        return True
    return any(operation in GRANTS.get(role, {}).get(resource, ()) for role in actor.roles)


def allows_for(actor: Actor, resource: Resource, operation: Operation, owner_id: str) -> bool:
    """Whether the actor may perform ``operation`` (of the ``_all`` kind) on a resource of ``owner_id``: by the right over
    everybody's, or by the right over their own when the owner is the actor."""
    if allows(actor, resource, operation):
        return True
    own = _OWN_OF.get(operation)
    return own is not None and actor.user_id == owner_id and allows(actor, resource, own)


def roles_with(resource: Resource, operation: Operation) -> tuple[Role, ...]:
    """The roles that grant an operation, in the order of the table."""
    return tuple(role for role in ROLES if operation in GRANTS.get(role, {}).get(resource, ()))


def denied(resource: Resource, operation: Operation) -> GatewayError:
    """The 403 that says what is missing."""
    verb = "Access" if operation == "system_access" else operation.split("_", 1)[0].capitalize()
    error = forbidden(f"Insufficient permissions to {verb} {resource}", code="insufficient_permissions")
    error.missing_right = (resource, operation)
    return error


def require(actor: Actor, resource: Resource, operation: Operation) -> None:
    """Raise GatewayError 403 unless ``allows``."""
    if not allows(actor, resource, operation):
        raise denied(resource, operation)


def require_for(actor: Actor, resource: Resource, operation: Operation, owner_id: str) -> None:
    """Raise GatewayError 403 unless ``allows_for``."""
    if not allows_for(actor, resource, operation, owner_id):
        raise denied(resource, operation)
