"""Finds every error that the program can answer with, by reading its source: status, code and message of each.

An error is made by ``GatewayError(status, type, code, message)``, by a class that is one (``super().__init__(...)``), or by a
function that returns one made from its own parameters (``not_found(message, code=...)``). Calls of such functions are
followed, of those with an underscore in their own module. A message's inserted values are shown by name. A code that is another
error's (``said.code``: a provider's own, passed on) is not listed; what stands after its ``or`` is.
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
    """A function that makes errors: its parameters in order, their defaults, the expressions of the error's fields, and its return."""

    parameters: tuple[str, ...]
    defaults: dict[str, ast.expr]
    fields: dict[str, ast.expr]
    call: ast.Call | None = None


def _bound(call: ast.Call, parameters: tuple[str, ...], defaults: dict[str, ast.expr]) -> dict[str, ast.expr]:
    given = dict(defaults)
    given.update(zip(parameters, call.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None})
    return given


def _name(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr == "__init__" and ast.unparse(function.value) == "super()":
        return "super().__init__"
    return function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


def _makers(tree: ast.Module) -> dict[str, Maker]:
    makers = {}
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
                fields = _bound(made, FIELDS, {})
                names = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
                if not isinstance(fields["code"], ast.Name) or fields["code"].id in names:
                    makers[function.name] = Maker(tuple(positional), defaults, fields, made)
    return makers


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """The names that a module gives to texts."""
    return {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _resolved(expression: ast.expr | None, given: dict[str, ast.expr]) -> ast.expr | None:
    if isinstance(expression, ast.Name) and expression.id in given:
        return given[expression.id]
    return expression


def _text(expression: ast.expr | None) -> str:
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value
    if isinstance(expression, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else _inserted(part) for part in expression.values)
    if isinstance(expression, ast.BoolOp):
        return _text(expression.values[-1])
    return ""


def _inserted(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    while isinstance(value, ast.Call):
        value = value.args[0] if value.args else value.func
    name = value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else "value"
    return "{" + name.strip("_").lower() + "}"


def _calls(tree: ast.Module, makers: dict[str, Maker]) -> Iterator[tuple[ast.Call, Maker]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) in makers:
            yield node, makers[_name(node)]
        elif isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id == "GatewayError" for base in node.bases):
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and _name(call) == "super().__init__":
                    yield call, makers["GatewayError"]


def _in(tree: ast.Module, makers: dict[str, Maker], room: str) -> Iterator[Raised]:
    constants, own = _constants(tree), {maker.call for maker in makers.values()}
    for call, maker in _calls(tree, makers):
        given = constants | _bound(call, maker.parameters, maker.defaults)
        fields = {field: _resolved(_resolved(maker.fields.get(field), given), constants) for field in FIELDS}
        code, status = _text(fields["code"]), fields["status"]
        number = status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else 0
        if code:
            yield Raised(code, number, _text(fields["message"]), room)
        elif call not in own and not (isinstance(fields["code"], ast.Attribute) and fields["code"].attr == "code"):
            raise ValueError(f"{room}, line {call.lineno}: write the error's code out here, so that docs/errors.md can name it")


def raised(source: Path = ROOT / "dwctl") -> list[Raised]:
    """Every error, without repetition. Raises ValueError where a code cannot be read."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(source.rglob("*.py"))}
    makers = {path: _makers(tree) for path, tree in trees.items()}
    shared = {name: maker for each in makers.values() for name, maker in each.items() if not name.startswith("_")}
    shared["GatewayError"] = Maker(FIELDS, {}, {field: ast.Name(field) for field in FIELDS})
    found: set[Raised] = set()
    for path, tree in trees.items():
        parts = path.relative_to(source).with_suffix("").parts
        if parts != ("errors",):
            found.update(_in(tree, shared | makers[path], ".".join(part for part in parts if part != "__init__")))
    return sorted(found)
