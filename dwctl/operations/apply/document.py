"""The file of ``dwctl apply``: its shape, and reading it so that a mistake names file, line and the nearest right word.

Numbers that are money are kept as written: 0.1 in the file is one tenth of a credit, not a binary fraction near it.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from msgspec import UNSET, UnsetType

from dwctl import catalog
from dwctl.config import BodyMode
from dwctl.errors import ConfigurationError
from dwctl.texts import UNSTORABLE

Written = str | int | float
"""A decimal number. From a YAML file it is the text that stands there."""

_MONEY = frozenset(
    {
        "amount",
        "input_per_million",
        "output_per_million",
        "cache_read_per_million",
        "cache_write_5m_per_million",
        "cache_write_1h_per_million",
        "per_request",
    }
)
_NAMES = frozenset({"secret", "api_key", "name", "alias", "model_name", "source_id", "expires_at"})
"""Written without quotes these may look like a number or a date; they are always text."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields that the file leaves out keep what is stored, or get their default at creation."""


class EndpointEntry(_Entry):
    name: str
    url: str
    dialect: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    api_key: str | UnsetType | None = UNSET
    api_key_env: str | UnsetType = UNSET
    auth_header_name: str | UnsetType = UNSET
    auth_header_prefix: str | UnsetType = UNSET
    model_filter: list[str] | UnsetType | None = UNSET
    forward_headers: list[str] | UnsetType = UNSET
    max_concurrency: int | UnsetType | None = UNSET
    connect_timeout: float | UnsetType | None = UNSET
    first_byte_timeout: float | UnsetType | None = UNSET
    idle_timeout: float | UnsetType | None = UNSET
    total_timeout: float | UnsetType | None = UNSET


class PriceEntry(_Entry):
    """Credits per million tokens (or per request), for keys of one purpose."""

    purpose: catalog.Purpose = "realtime"
    name: str | UnsetType = UNSET
    input_per_million: Written = "0"
    output_per_million: Written = "0"
    cache_read_per_million: Written | None = None
    cache_write_5m_per_million: Written | None = None
    cache_write_1h_per_million: Written | None = None
    per_request: Written = "0"


class ModelEntry(_Entry):
    alias: str
    endpoint: str
    model_name: str | UnsetType = UNSET
    display_name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    model_type: catalog.ModelType | UnsetType = UNSET
    capabilities: list[str] | UnsetType = UNSET
    requests_per_second: float | UnsetType | None = UNSET
    burst_size: int | UnsetType | None = UNSET
    capacity: int | UnsetType | None = UNSET
    batch_capacity: int | UnsetType | None = UNSET
    throughput: float | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    tokenizer: str | UnsetType | None = UNSET
    bodies: BodyMode | UnsetType | None = UNSET
    always_stream_usage: bool | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    groups: list[str] | UnsetType = UNSET
    prices: list[PriceEntry] | UnsetType = UNSET


class GroupEntry(_Entry):
    name: str
    description: str | UnsetType | None = UNSET


class UserEntry(_Entry):
    email: str
    username: str | UnsetType = UNSET
    display_name: str | UnsetType | None = UNSET
    roles: list[str] | UnsetType = UNSET
    groups: list[str] | UnsetType = UNSET


class KeyEntry(_Entry):
    user: str
    name: str
    secret: str | UnsetType = UNSET
    secret_env: str | UnsetType = UNSET
    purpose: Literal["realtime", "platform"] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    requests_per_second: float | UnsetType | None = UNSET
    burst_size: int | UnsetType | None = UNSET
    max_concurrency: int | UnsetType | None = UNSET
    bodies: BodyMode | UnsetType | None = UNSET
    always_stream_usage: bool | UnsetType = UNSET
    expires_at: str | UnsetType | None = UNSET


class GrantEntry(_Entry):
    user: str
    amount: Written
    source_id: str
    description: str | None = None


class Document(_Entry):
    """Everything that an apply file may say; what it does not mention is left alone."""

    endpoints: list[EndpointEntry] = []
    groups: list[GroupEntry] = []
    users: list[UserEntry] = []
    models: list[ModelEntry] = []
    keys: list[KeyEntry] = []
    grants: list[GrantEntry] = []


_SHAPES: dict[str, type[msgspec.Struct]] = {
    "endpoints": EndpointEntry,
    "groups": GroupEntry,
    "users": UserEntry,
    "models": ModelEntry,
    "keys": KeyEntry,
    "grants": GrantEntry,
    "prices": PriceEntry,
}

Step = str | int
Place = tuple[Step, ...]


class Source(msgspec.Struct, frozen=True):
    """Where a document came from: the file's name, if any, and the line of every key and item."""

    name: str | None
    lines: dict[Place, int]

    def error(self, place: Place, message: str) -> ConfigurationError:
        """The error that ``message`` is, with the place before it."""
        path = _dotted(place)
        if self.name is None:
            return ConfigurationError(f"{path}: {message}" if path else message)
        while place and place not in self.lines:
            place = place[:-1]
        line = self.lines.get(place)
        where = f"{self.name}:{line}" if line is not None else self.name
        return ConfigurationError(f"{where}: {path}: {message}" if path else f"{where}: {message}")


def read(source: Path | Mapping[str, Any]) -> tuple[Document, Source]:
    """Read and check the shape of a file, or of a document that is already plain data.

    Raises ConfigurationError naming file, line, field and, for a word that is unknown, the nearest known one.
    """
    if isinstance(source, Path):
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(f"{source}: cannot be read: {reason}") from error
        data, lines = _load_yaml(text, str(source))
        origin = Source(str(source), lines)
    else:
        data, origin = source, Source(None, {})
    if data is None:
        return Document(), origin
    _refuse_unstorable(data, (), origin)
    try:
        return msgspec.convert(data, Document), origin
    except msgspec.ValidationError as error:
        raise _explain(str(error), origin) from error


def _refuse_unstorable(data: Any, place: Place, origin: Source) -> None:
    if isinstance(data, str):
        if UNSTORABLE.search(data):
            raise origin.error(place, "contains a character that cannot be stored")
    elif isinstance(data, Mapping):
        for key, value in data.items():
            _refuse_unstorable(key, place, origin)
            _refuse_unstorable(value, (*place, key), origin)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            _refuse_unstorable(value, (*place, index), origin)


_FIELD = re.compile(r"field `(?P<name>[^`]*)`")
_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[(\d+)\]")


def _explain(message: str, origin: Source) -> ConfigurationError:
    """Turn msgspec's ``... - at `$.models[0].alias``` into a place, and an unknown field into a suggestion."""
    place: Place = ()
    at = _AT.search(message)
    if at:
        place = tuple(int(index) if index else name for name, index in _STEP.findall(at["path"]))
        message = message[: at.start()]
    field = _FIELD.search(message)
    if field and "unknown" in message:
        known = _known_fields(place)
        near = difflib.get_close_matches(field["name"], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return origin.error((*place, field["name"]), f"unknown key; {hint}")
    if field and "missing" in message:
        return origin.error(place, f"{field['name']!r} is missing")
    return origin.error(place, message[:1].lower() + message[1:])


def _known_fields(place: Place) -> list[str]:
    names = [step for step in place if isinstance(step, str)]
    shape = _SHAPES.get(names[-1], Document) if names else Document
    return [field.name for field in msgspec.structs.fields(shape)]


def _dotted(place: Place) -> str:
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".")


def _load_yaml(text: str, name: str) -> tuple[Any, dict[Place, int]]:
    """Plain data of one YAML document and the line of each of its keys and items."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise ConfigurationError(f"{name}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name}: not YAML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{name}: nested too deeply") from None
    lines: dict[Place, int] = {}
    if root is None:
        return None, lines
    return _plain(root, (), lines, name, frozenset()), lines


_TAG = "tag:yaml.org,2002:"
_TEXTS = {_TAG + kind for kind in ("str", "timestamp", "merge", "value")}
_VALUES = {_TAG + kind for kind in ("null", "bool", "int", "float")}
_DEEPEST = 50
_MOST_ENTRIES = 250_000
"""Keys and items that a file may have, each as often as an alias repeats it."""


def _plain(node: yaml.Node, place: Place, lines: dict[Place, int], name: str, above: frozenset[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(place, line)
    if id(node) in above:
        raise ConfigurationError(f"{name}:{line}: an alias that contains itself")
    if len(place) > _DEEPEST:
        raise ConfigurationError(f"{name}:{line}: nested too deeply")
    if len(lines) > _MOST_ENTRIES:
        raise ConfigurationError(f"{name}:{line}: more than {_MOST_ENTRIES} keys and items, aliases included; use several files")
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        return dict(_pairs(node, place, lines, name, above))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*place, index), lines, name, above) for index, item in enumerate(node.value)]
    key = place[-1] if place else ""
    if node.tag in _TEXTS or ((key in _MONEY or key in _NAMES) and node.tag != _TAG + "null"):
        return node.value
    # The value is not said: what does not fit its place may be a secret.
    if node.tag not in _VALUES:
        raise ConfigurationError(f"{name}:{line}: {_dotted(place)}: has a tag that is not known here; write a plain value")
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except (ValueError, LookupError):
        raise ConfigurationError(f"{name}:{line}: {_dotted(place)}: cannot be read; a text is put in quotes") from None


def _pairs(node: yaml.MappingNode, place: Place, lines: dict[Place, int], name: str, above: frozenset[int]) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigurationError(f"{name}:{line}: a key must be a word")
        key = key_node.value
        if key in seen:
            raise ConfigurationError(f"{name}:{line}: {_dotted((*place, key))}: given twice")
        seen.add(key)
        lines[(*place, key)] = line
        yield key, _plain(value_node, (*place, key), lines, name, above)
