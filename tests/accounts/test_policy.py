"""The policy table, in the words of its documentation."""

import pytest

from dwctl.accounts import CLI, SYSTEM, Actor, allows, allows_for, require, require_for
from dwctl.accounts.policy import OPERATIONS, RESOURCES
from dwctl.errors import GatewayError


def actor(*roles: str, is_admin: bool = False) -> Actor:
    return Actor("me", "me@example.com", is_admin, frozenset(roles), "session")


def test_nobody_may_anything_without_a_role() -> None:
    for who in (actor(), actor("Unknown"), actor("BackgroundInferenceUser")):
        assert not any(allows(who, resource, operation) for resource in RESOURCES for operation in OPERATIONS)


@pytest.mark.parametrize("who", [actor(is_admin=True), SYSTEM, CLI])
def test_administrators_may_everything(who: Actor) -> None:
    assert all(allows(who, resource, operation) for resource in RESOURCES for operation in OPERATIONS)


def test_managers_do_not_read_requests_and_have_no_system_access() -> None:
    manager = actor("PlatformManager")
    assert allows(manager, "Analytics", "read_all")
    assert allows(manager, "System", "read_all")
    for operation in OPERATIONS:
        assert not allows(manager, "Requests", operation)
    for resource in RESOURCES:
        assert not allows(manager, resource, "system_access")


def test_roles_add_up() -> None:
    both = actor("RequestViewer", "BillingManager")
    assert allows(both, "Requests", "read_all")
    assert allows(both, "Credits", "create_all")
    assert not allows(actor("RequestViewer"), "Users", "read_all")


def test_own_rights_reach_as_far_as_oneself() -> None:
    standard = actor("StandardUser")
    assert allows_for(standard, "Users", "read_all", "me")
    assert not allows_for(standard, "Users", "read_all", "you")
    assert not allows_for(standard, "Users", "delete_all", "me")
    assert allows_for(actor("BillingManager"), "Users", "read_all", "you")
    # The right over everybody's does not hang on being the owner, nor does the right over one's own imply it.
    assert not allows(standard, "Users", "read_all")


def test_refusals_say_what_is_missing() -> None:
    with pytest.raises(GatewayError, match=r"^Insufficient permissions to Delete Endpoints$") as caught:
        require(actor("StandardUser"), "Endpoints", "delete_all")
    assert (caught.value.status, caught.value.code) == (403, "insufficient_permissions")
    with pytest.raises(GatewayError, match=r"^Insufficient permissions to Access System$"):
        require(actor("PlatformManager"), "System", "system_access")
    with pytest.raises(GatewayError, match=r"^Insufficient permissions to Update Users$"):
        require_for(actor("StandardUser"), "Users", "update_all", "you")
    require(actor("PlatformManager"), "Endpoints", "delete_all")
