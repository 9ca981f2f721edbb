"""The API as OpenAPI 3.1 documents: ``/admin/openapi.json`` and ``/ai/openapi.json``, made from the code.

Administration comes from the doorway's route table: paths, parameters, body and answer types, the policy. Inference comes from
``inference_reference``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

import dwctl
from dwctl.api import inference_reference
from dwctl.api.context import Context
from dwctl.doorway import Authenticated, Needs, PageQuery, Policy, Public, Route, route, route_table
from dwctl.errors import not_found

ROUTES: list[Route] = []
_REF = "#/components/schemas/{name}"
_ERROR = {
    "type": "object",
    "required": ["message", "error"],
    "properties": {
        "message": {"type": "string"},
        "error": {
            "type": "object",
            "required": ["type", "code", "message", "param"],
            "properties": {
                "type": {"type": "string"},
                "code": {"type": "string"},
                "message": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "The field at fault."},
            },
        },
    },
    "additionalProperties": True,
}
_REFUSAL = {
    "description": (
        "What was wrong: with the input (400, 413, 415, 422), with who asks (401, 403), with what is there (404, 409, 412), or with the"
        " server (500, 503). 429 and 503 have a `Retry-After` header."
    ),
    "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
}
_IF_MATCH = {
    "name": "if-match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The `ETag` of what the caller has seen; 412 `stale_revision` if it has been changed since.",
}
_ETAG = {"etag": {"schema": {"type": "string"}, "description": "The revision, for `If-Match`."}}
_REQUEST_ID = {"x-request-id": {"schema": {"type": "string"}, "description": "Names the request in the log."}}


def admin_document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of every administrative route."""
    table = [entry for entry in routes if entry.path.startswith(("/admin/api/", "/authentication/"))]
    types = [type_ for entry in table for type_ in (entry.body, entry.query, entry.returns) if type_ is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for entry in table:
        body, query, returns = (None if type_ is None else next(schema_of) for type_ in (entry.body, entry.query, entry.returns))
        operation: dict[str, Any] = {
            "summary": entry.summary,
            "operationId": entry.handler.__name__,
            "description": _paragraph(entry.description),
            "tags": [entry.tag] if entry.tag else [],
            "parameters": [
                *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in entry.parameters),
                *_query_parameters(query, components),
                *([_IF_MATCH] if entry.compares_revisions else []),
            ],
            "responses": {str(entry.status): _response(entry, returns), "default": {"$ref": "#/components/responses/Error"}},
            "security": [] if isinstance(entry.policy, Public) else [{"session": []}, {"key": []}],
            "x-policy": _policy(entry.policy),
        }
        if body is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        paths.setdefault(entry.template, {})[entry.method.lower()] = operation
    for query_type in {entry.query for entry in table if entry.query is not None}:
        components.pop(query_type.__name__, None)
    components.pop(PageQuery.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dwctl administration", "version": dwctl.__version__},
        "paths": paths,
        "components": {
            "schemas": {**_with_numbers(components), "Error": _ERROR},
            "responses": {"Error": _REFUSAL},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key of purpose platform."},
                "session": {"type": "apiKey", "in": "cookie", "name": "dwctl_session"},
            },
        },
    }


def _query_parameters(query: dict[str, Any] | None, components: dict[str, Any]) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = components[query["$ref"].rsplit("/", 1)[1]]
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(property_)}
        for name, property_ in schema["properties"].items()
    ]


def _with_numbers(schema: Any) -> Any:
    """The schema with decimals as msgspec reads them: from text, which is what it says, or from a number."""
    if isinstance(schema, list):
        return [_with_numbers(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _with_numbers(part) for name, part in schema.items()}
    return {**told, "type": ["string", "number"]} if told.get("format") == "decimal" else told


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is there or not; it is never null."""
    some = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    return some[0] if len(some) == 1 else {name: value for name, value in schema.items() if name != "default" or value is not None}


def _response(entry: Route, schema: dict[str, Any] | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done."}
    if "revision" in getattr(entry.returns, "__struct_fields__", ()):
        answer["headers"] = _ETAG
    if schema is not None:
        answer["content"] = {"application/json": {"schema": schema}}
    return answer


def _policy(policy: Policy) -> dict[str, Any]:
    """The declared policy as data."""
    if isinstance(policy, Needs):
        told: dict[str, Any] = {"resource": policy.resource, "operation": policy.operation}
        return told if policy.own is None else {**told, "own": policy.own}
    if isinstance(policy, Authenticated):
        return {"authenticated": True, "any_key": policy.any_key}
    return {"public": True}


def _paragraph(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _any_of(names: Sequence[str]) -> dict[str, Any]:
    return _ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(name) for name in names]}


def inference_document() -> dict[str, Any]:
    """The document of the inference surface."""
    paths: dict[str, dict[str, Any]] = {}
    for described in inference_reference.OPERATIONS:
        error = {"application/json": {"schema": _any_of(described.errors)}}
        refusals = {"default": "Any other refusal.", **(inference_reference.ERRORS if described.calls else {})}
        operation: dict[str, Any] = {
            "summary": described.summary,
            "description": described.description,
            "parameters": [*described.parameters, *(inference_reference.OF_CALLS if described.calls else ())],
            "responses": {status: {"description": meaning, "content": error} for status, meaning in refusals.items()},
        }
        if described.response is not None:
            content = {"application/json": {"schema": described.response}}
            if described.streams is not None:
                content[described.streams] = {"schema": {"type": "string"}}
            operation["responses"]["200"] = {
                "description": "The provider's answer." if described.calls else "Done.",
                "headers": _REQUEST_ID,
                "content": content,
            }
        if described.request is not None:
            body = {"schema": described.request}
            operation["requestBody"] = {"required": True, "content": dict.fromkeys(described.takes, body)}
        if not described.needs_key:
            operation["security"] = []
        paths.setdefault(inference_reference.ROOT + described.path, {})[described.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dwctl inference",
            "version": dwctl.__version__,
            "description": "What is under `/ai/v1` is also under `/v1`, and what is under `/ai/api` also under `/api`.",
        },
        "security": [{"key": []}, {"x-api-key": []}],
        "paths": paths,
        "components": {
            "schemas": inference_reference.ERROR_SCHEMAS,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key for inference."},
                "x-api-key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "The same, as Anthropic's clients send it.",
                },
            },
        },
    }


def _require_enabled(enabled: bool) -> None:
    if not enabled:
        raise not_found("This document is switched off by the configuration (openapi)")


@route(ROUTES, "GET", "/admin/openapi.json", policy=Needs("System", "read_all"), summary="OpenAPI document of the admin API", tag="openapi")
async def get_admin_document(context: Context) -> dict[str, Any]:
    """404 when ``openapi.admin_enabled`` is false."""
    _require_enabled(context.services.config.openapi.admin_enabled)
    return admin_document(route_table(context.request.app))


@route(
    ROUTES, "GET", "/ai/openapi.json", policy=Authenticated(any_key=True), summary="OpenAPI document of the inference API", tag="openapi"
)
async def get_inference_document(context: Context) -> dict[str, Any]:
    """404 when ``openapi.ai_enabled`` is false."""
    _require_enabled(context.services.config.openapi.ai_enabled)
    return inference_document()
