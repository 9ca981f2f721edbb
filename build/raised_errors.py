"""Finds every error that the program can answer with, by reading its source: status, code and message of each.

An error is made by ``GatewayError(status, type, code, message)`` or by a function that returns one made from its own
parameters (``not_found(message, code=...)``); calls of such functions are followed. A message's inserted values are shown
by name. An error whose code is not written out anywhere (a provider's own, passed on) is not listed.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIELDS = ("status", "type", "code", "message")


@dataclass(frozen=True, order=True)
class Raised:
    """One error as written in ``room`` (a package or module of dwctl). ``status`` 0: it depends; ``message`` "": it depends."""

    code: str
    status: int
    message: str
    room: str


@dataclass(frozen=True)
class Maker:
    """A function that makes errors: its parameters in order, their defaults, and the expressions of the error's fields."""

    parameters: tuple[str, ...]
    defaults: dict[str, ast.expr]
    fields: dict[str, ast.expr]


def _bound(call: ast.Call, parameters: tuple[str, ...], defaults: dict[str, ast.expr]) -> dict[str, ast.expr]:
    given = dict(defaults)
    given.update(zip(parameters, call.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None})
    return given


def _name(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


def _makers(trees: dict[Path, ast.Module]) -> dict[str, Maker]:
    makers = {"GatewayError": Maker(FIELDS, {}, {field: ast.Name(field) for field in FIELDS})}
    for tree in trees.values():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for statement in function.body:
                made = statement.value if isinstance(statement, ast.Return) else None
                if isinstance(made, ast.Call) and _name(made) == "GatewayError":
                    arguments = function.args
                    positional = [argument.arg for argument in arguments.args]
                    defaults = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
                    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
                        if default is not None:
                            defaults[argument.arg] = default
                    makers[function.name] = Maker(tuple(positional), defaults, _bound(made, FIELDS, {}))
    return makers


def _resolved(expression: ast.expr | None, given: dict[str, ast.expr]) -> ast.expr | None:
    if isinstance(expression, ast.Name) and expression.id in given:
        return given[expression.id]
    return expression


def _text(expression: ast.expr | None) -> str:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value
    if isinstance(expression, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else _inserted(part) for part in expression.values)
    return ""


def _inserted(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    while isinstance(value, ast.Call):
        value = value.args[0] if value.args else value.func
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else "value"
    return "{" + name.strip("_").lower() + "}"


def _in(tree: ast.Module, makers: dict[str, Maker], room: str) -> Iterator[Raised]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or _name(call) not in makers:
            continue
        maker = makers[_name(call)]
        given = _bound(call, maker.parameters, maker.defaults)
        fields = {field: _resolved(maker.fields.get(field), given) for field in FIELDS}
        code, status = _text(fields["code"]), fields["status"]
        number = status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else 0
        if code:
            yield Raised(code, number, _text(fields["message"]), room)


def raised() -> list[Raised]:
    """Every error, without repetition."""
    trees = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "dwctl").rglob("*.py"))}
    makers = _makers(trees)
    found: set[Raised] = set()
    for path, tree in trees.items():
        parts = path.relative_to(ROOT / "dwctl").with_suffix("").parts
        if parts != ("errors",):
            found.update(_in(tree, makers, ".".join(part for part in parts if part != "__init__")))
    return sorted(found)
