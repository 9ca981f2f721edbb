"""The policy that every route declares: who may come in at all. What is decided per row is the operation's business.

A policy is data, so that the OpenAPI document and the test of every route against every role read the same declaration
that the doorway enforces.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from dwctl.accounts.policy import Operation, Resource


class Public(msgspec.Struct, frozen=True, tag=True):
    """Anyone, signed in or not."""


class Authenticated(msgspec.Struct, frozen=True, tag=True):
    """Any identity. With ``any_key``, API keys of every purpose count, else only platform keys."""

    any_key: bool = False


class Needs(msgspec.Struct, frozen=True, tag=True):
    """The right to an operation on a resource.

    ``own`` names the path parameter that holds the owner's id: then an ``_all`` operation is also allowed to that owner by
    the ``_own`` right. ``current`` in that parameter means the actor.
    """

    resource: Resource
    operation: Operation
    own: str | None = None


class InferenceKey(msgspec.Struct, frozen=True, tag=True):
    """An API key that may call models. Enforced by the gateway, not by the doorway."""


class MetricsReader(msgspec.Struct, frozen=True, tag=True):
    """Loopback, an allowed network, or the metrics token. Enforced by the handler."""


Policy = Public | Authenticated | Needs | InferenceKey | MetricsReader

_ATTRIBUTE = "__dwctl_policy__"
_Handler = TypeVar("_Handler", bound=Callable[..., Any])


def declare(handler: _Handler, policy: Policy) -> _Handler:
    """State the policy of a handler that is added to Sanic directly, and enforces it itself. Returns the handler."""
    setattr(getattr(handler, "__func__", handler), _ATTRIBUTE, policy)
    return handler


def policy_of(handler: Callable[..., Any]) -> Policy | None:
    """The declared policy of a handler (a function, a bound method, or a ``partial`` of one), if any."""
    found: Policy | None = getattr(handler, _ATTRIBUTE, None)
    if found is None and isinstance(handler, partial):
        return policy_of(handler.func)
    return found
