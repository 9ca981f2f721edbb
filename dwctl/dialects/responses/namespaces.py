"""Namespaces, which group a client's tools. No other dialect has them.

A provider is told of a tool by one name, its namespace before its own; the client is told of a call by the two.
"""

from typing import Any

from dwctl.dialects.canonical import Request

NAMESPACE = "namespace"
"""The type of a group of tools."""


def joined(namespace: str | None, name: str) -> str:
    """The name of a tool outside Responses."""
    return f"{namespace}__{name}" if namespace else name


def parted(request: Request) -> dict[str, dict[str, Any]]:
    """The ``name`` and ``namespace`` of each tool that has one, by the name that stands for them."""
    return {
        joined(group["name"], tool["name"]): {"name": tool["name"], "namespace": group["name"]}
        for group in request.echo.get("tools", [])
        if group["type"] == NAMESPACE
        for tool in group["tools"]
    }
