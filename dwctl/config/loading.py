"""Reading the configuration: layers of texts, each with its origin, turned into one checked `Config`.

A layer maps dotted paths to texts as they were written; only then is a text read as what its key wants. So `off`, `0123`
or `1.10` mean in a file what they mean in a variable, whatever YAML would have made of them.
"""

import difflib
import ipaddress
import os
import re
import tempfile
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
import yaml

from dwctl import money
from dwctl.config.schema import ROLES, SYSTEM_EMAIL, Config, Key, Section, hints, is_email, keys, section_of
from dwctl.errors import ConfigurationError

DEFAULT_FILE = "dwctl.yaml"
PREFIX = "DWCTL_"
NOT_KEYS = {"DWCTL_CONFIG", "DWCTL_PASSPHRASE"}
UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONGEST = 100 * 365 * UNITS["d"]
SIZES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
WORDS = {"duration": "a duration such as 30s", "size": "a size such as 10MiB", "credits": "an amount such as 2.50", "path": "a path"}
POSTGRESQL = ("postgres://", "postgresql://")
SHORTEST_SECRET_KEY = 16
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""Names of cookies and of headers (RFC 9110, 5.6.2)."""
HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
"""Names of hosts (RFC 1123, 2.1), with the underscore that some have."""
CURRENCY = re.compile(r"[A-Z]{3}")
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?/?")
OWN_PORTS = {"http": 80, "https": 443}
TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True)
class Given:
    """A value as it was written: one text, a list of texts, or None (YAML's null); and where."""

    value: str | list[str] | None
    origin: str


@dataclass(frozen=True)
class Explained:
    """A configuration and, by dotted path, where each value came from: ``default``, ``FILE:LINE``, ``env NAME``, ``flag --NAME``."""

    config: Config
    origins: Mapping[str, str]

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """(path, value, origin) of every key, secrets hidden."""
        for path, key in keys().items():
            value = _value_at(self.config, path)
            yield path, _shown(key, value), self.origins.get(path, "default")


def _shown(key: Key, value: Any) -> str:
    if value is None:
        return "not set"
    if key.secret:
        return "(hidden)"
    if key.kind == "credits":
        return money.format_amount(value)
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def find(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one named, else ``DWCTL_CONFIG``, else ``dwctl.yaml`` in the working directory if it is there."""
    named = path or environ.get("DWCTL_CONFIG")
    if named:
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def load(path: str | os.PathLike[str] | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration from the file ``path`` (None: no file), ``environ`` and ``overrides`` (dotted path -> value; None is skipped).

    Raises ConfigurationError that names the key, the place and the nearest right key.
    """
    return explain(path, environ, overrides).config


def explain(path: str | os.PathLike[str] | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Explained:
    """As `load`, with the origin of every value."""
    given: dict[str, Given] = {}
    if path is not None:
        given.update(_from_file(Path(path)))
    given.update(_from_environment(environ))
    given.update(_from_flags(overrides or {}))
    values = {name: _read(keys()[name], item) for name, item in given.items() if item.value is not None or keys()[name].optional}
    unset = [name for name, item in given.items() if item.value is None and not keys()[name].optional]
    if unset:
        raise ConfigurationError(f"{given[unset[0]].origin}: `{unset[0]}` has no value")
    origins = {name: item.origin for name, item in given.items()}
    config = _build(Config, "", values, origins)
    _check(config, origins)
    return Explained(config, origins)


def secret_key(config: Config) -> str | None:
    """The text that credentials are sealed with: ``secret_key``, or what ``secret_key_file`` holds. None: a file in ``data_dir``.

    Raises ConfigurationError for a text that is missing, and for a file whose text does not do.
    """
    text = config.secret_key
    if config.secret_key_file is not None:
        name = f"`secret_key_file` names {config.secret_key_file}, which"
        try:
            text = config.secret_key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name} cannot be read") from error
        if not text:
            raise ConfigurationError(f"{name} is empty")
        if len(text) < SHORTEST_SECRET_KEY:
            raise ConfigurationError(f"{name} must have at least {SHORTEST_SECRET_KEY} characters")
    if text is None and (config.database.url or "").startswith(POSTGRESQL):
        # Nodes share it; a file would be one node's own.
        raise ConfigurationError("secret_key (or secret_key_file) is needed with PostgreSQL: stored credentials are sealed with it")
    return text


def check_data_dir(config: Config) -> None:
    """Whether ``data_dir`` is a folder that can be written, or can become one: it is tried, and nothing is left of that.

    Raises ConfigurationError.
    """
    existing = config.data_dir.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing):
            pass
    except OSError as error:
        raise ConfigurationError(f"`data_dir` names {config.data_dir}, which cannot be used: {error.strerror}") from None


# Layers


def _from_file(path: Path) -> Iterator[tuple[str, Given]]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{path}{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: is not YAML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{path}: is nested too deeply") from None
    if root is None or _is_null(root):
        return
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{path}:{root.start_mark.line + 1}: a mapping of keys is expected")
    yield from _from_mapping(root, Config, "", path)


def _from_mapping(node: yaml.MappingNode, kind: type[Section], prefix: str, path: Path) -> Iterator[tuple[str, Given]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        place = f"{path}:{line}"
        name = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        if name not in hints(kind):
            raise ConfigurationError(f"{place}: {_unknown(prefix + name)}")
        if name in seen:
            raise ConfigurationError(f"{place}: `{prefix + name}` was already set on line {seen[name]}")
        seen[name] = line
        inner = section_of(hints(kind)[name])
        if inner is None:
            yield prefix + name, Given(_texts(value_node, prefix + name, place), place)
        elif isinstance(value_node, yaml.MappingNode):
            yield from _from_mapping(value_node, inner, f"{prefix}{name}.", path)
        elif not _is_null(value_node):
            raise ConfigurationError(f"{place}: `{prefix + name}` is a group of keys: {', '.join(hints(inner))}")


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _texts(node: yaml.Node, name: str, place: str) -> str | list[str] | None:
    if _is_null(node):
        return None
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [str(item.value) for item in node.value]
    raise ConfigurationError(f"{place}: `{name}` takes {_wanted(keys()[name])}")


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    by_variable = {key.variable: key.path for key in keys().values()}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_KEYS or not environ[variable]:
            continue  # an empty variable counts as not set, as in most tools that hand variables on
        path = by_variable.get(variable.upper())
        if path is None:
            name = variable[len(PREFIX) :].lower().replace("__", ".")
            raise ConfigurationError(f"environment variable {variable}: {_unknown(name, variable=True)}")
        yield path, Given(environ[variable], f"env {variable}")
    if environ.get("DATABASE_URL"):
        yield "database.url", Given(environ["DATABASE_URL"], "env DATABASE_URL")


def _from_flags(overrides: Mapping[str, Any]) -> Iterator[tuple[str, Given]]:
    for path, value in overrides.items():
        if value is None:
            continue
        origin = "flag --" + path.replace("_", "-").replace(".", "-")
        if path not in keys():
            raise ConfigurationError(f"{origin}: {_unknown(path)}")
        yield path, Given([str(item) for item in value] if isinstance(value, list | tuple) else str(value), origin)


def _unknown(path: str, *, variable: bool = False) -> str:
    """What to say of a key that does not exist: how it is written, if only that is wrong; the nearest among its siblings, else in the
    whole tree; else what its group has."""
    paths = _all_paths()
    said = f"unknown key `{path}`"
    if path in paths and not variable:
        return f"{said}; groups are nested: `{path.replace('.', ': {')}: ...{'}' * path.count('.')}`"
    if path in paths and path not in keys():
        children = [candidate for candidate in paths if candidate.rpartition(".")[0] == path]
        names = [keys()[child].variable if child in keys() else f"{PREFIX}{child.upper().replace('.', '__')}__..." for child in children]
        return f"{said}; it is a group, with the variables {', '.join(names)}"
    parent, _, name = path.rpartition(".")
    siblings = [candidate for candidate in paths if candidate.rpartition(".")[0] == parent]
    near = difflib.get_close_matches(path, siblings, n=1, cutoff=0.7)
    near = near or [candidate for candidate in paths if candidate.rpartition(".")[2] == name]
    near = near or difflib.get_close_matches(path, paths, n=1, cutoff=0.7)
    near = near or [candidate for candidate in paths if difflib.get_close_matches(name, [candidate.rpartition(".")[2]], cutoff=0.8)]
    if near:
        best = keys()[near[0]].variable if variable and near[0] in keys() else f"`{near[0]}`"
        return f"{said}; the nearest key is {best}"
    names = [candidate.rpartition(".")[2] for candidate in siblings] or list(hints(Config))
    return f"{said}; here can stand: {', '.join(names)}"


def _all_paths() -> list[str]:
    paths: dict[str, None] = {}
    for path in keys():
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            paths[".".join(parts[:length])] = None
    return list(paths)


# Texts to values


def _read(key: Key, given: Given) -> Any:
    if given.value is None:
        return None
    try:
        value = _parse(key, given.value)
        return value if key.type is Path else msgspec.convert(value, key.annotation)
    except msgspec.ValidationError as error:
        said = str(error).replace("Expected", "expected")
    except ValueError as error:
        said = str(error)
    shown = "" if key.secret else f" {given.value!r}" if isinstance(given.value, str) else f" {', '.join(given.value)}"
    raise ConfigurationError(f"{given.origin}: `{key.path}`{shown}: {said}")


def _parse(key: Key, given: str | list[str]) -> Any:
    """The value that a text means for this key. Raises ValueError."""
    if get_origin(key.type) is tuple:
        items = given if isinstance(given, list) else [item.strip() for item in given.split(",") if item.strip()]
        if key.kind == "cidrs":
            for item in items:
                ipaddress.ip_network(item, strict=False)
        return items
    if isinstance(given, list):
        raise ValueError(f"takes {_wanted(key)}, not a list")
    if key.secret and not given.strip():
        raise ValueError("is empty; write a value, or leave the key out")
    match key.kind:
        case "duration":
            return _duration(given)
        case "size":
            return _size(given)
        case "credits":
            return money.parse_amount(given)
        case "path":
            if not given:
                raise ValueError("is empty")
            if "\0" in given:
                raise ValueError("has a character that no path has")
            try:
                return Path(given).expanduser()
            except RuntimeError:
                raise ValueError("names the home of a user who is not known; write the whole path") from None
    if key.type is bool:
        if given.lower() not in TRUE | FALSE:
            raise ValueError("is neither true nor false")
        return given.lower() in TRUE
    if get_origin(key.type) is Literal and given not in get_args(key.type):
        raise ValueError(f"is not one of {', '.join(get_args(key.type))}")
    if key.type is int or key.type is float:
        try:
            return key.type(given)
        except ValueError:
            raise ValueError(f"is not {_wanted(key)}") from None
    return given


def _wanted(key: Key) -> str:
    if get_origin(key.type) is tuple:
        return "a list"
    if key.kind in WORDS:
        return WORDS[key.kind]
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(key.type, "a text")


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.lower())
        rest = re.sub(r"(\d+(?:\.\d+)?)\s*([a-z]+)", "", text.lower()).strip()
        if not parts or rest or any(unit not in UNITS for _, unit in parts):
            raise ValueError("is not a duration; write seconds, or for example 250ms, 30s, 10m, 24h, 7d") from None
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if not seconds < float("inf"):
        raise ValueError("is not a duration")
    if seconds > LONGEST:
        raise ValueError("is longer than a hundred years")
    return seconds


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.lower())
    if match is None or match[2] not in SIZES:
        raise ValueError("is not a size; write bytes, or for example 64KiB, 10MiB, 1GiB")
    return int(float(match[1]) * SIZES[match[2]]) if "." in match[1] else int(match[1]) * SIZES[match[2]]


# Values to structs


def _build(kind: type[Section], prefix: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> Any:
    arguments: dict[str, Any] = {}
    for name, annotation in hints(kind).items():
        path = prefix + name
        inner = section_of(annotation)
        if inner is None:
            if path in values:
                arguments[name] = values[path]
            elif keys()[path].required:
                other = next(origin for given, origin in origins.items() if given.startswith(prefix))
                raise ConfigurationError(f"{other}: `{path}` is missing beside the other keys of `{prefix[:-1]}`")
        elif any(given.startswith(path + ".") for given in values) or not _is_optional(annotation):
            arguments[name] = _build(inner, path + ".", values, origins)
    return kind(**arguments)


def _is_optional(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType)


def _value_at(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return text.startswith(("https://", "http://")) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_origin(text: str) -> bool:
    """Whether a browser could say of a page that it comes from there (Fetch, "serializing a request origin")."""
    match = ORIGIN.fullmatch(text)
    if match is None:
        return False
    port = int(match["port"] or 0)
    return port <= 65535 and port != OWN_PORTS.get(match["scheme"])


def _check(config: Config, origins: Mapping[str, str]) -> None:
    """Rules between keys. Raises ConfigurationError."""

    def refuse(path: str, said: str, *others: str) -> None:
        place = next((origins[given] for given in (path, *others) if given in origins), "default")
        raise ConfigurationError(f"{place}: `{path}` {said}")

    auth, tls, journal = config.auth, config.tls, config.journal
    if not HOST.fullmatch(config.host) and not _is_address(config.host):
        refuse("host", f"{config.host!r} is neither an IP address nor the name of a host; the port stands in `port`")
    if config.port > 65535:
        refuse("port", "is above 65535")
    if auth.proxy_header.enabled and not config.trusted_proxies:
        refuse("auth.proxy_header.enabled", "needs `trusted_proxies`: without it anyone could sign in as anyone by sending a header")
    if (tls.certificate is None) != (tls.key is None):
        present, absent = ("tls.key", "tls.certificate") if tls.certificate is None else ("tls.certificate", "tls.key")
        refuse(present, f"needs `{absent}` beside it")
    if not is_email(config.admin_email.strip()):
        refuse("admin_email", "is not an e-mail address")
    if config.admin_email.strip().lower() == SYSTEM_EMAIL:
        refuse("admin_email", f"{SYSTEM_EMAIL} is the account of the system itself; give a person's address")
    if config.email.type is not None and config.dashboard_url is None:
        refuse("email.type", "needs `dashboard_url`: links in mail begin with it")
    if config.dashboard_url is not None and not _is_web_address(config.dashboard_url):
        refuse("dashboard_url", "must begin with https:// or http:// and name a host")
    if config.email.type == "smtp" and config.email.host is None:
        refuse("email.type", "needs `email.host` for smtp")
    for path in ("tls.certificate", "tls.key", "secret_key_file"):
        file = _value_at(config, path)
        if file is not None and not os.access(file, os.R_OK):
            refuse(path, f"names {file}, which cannot be read")
    if config.secret_key is not None and config.secret_key_file is not None:
        refuse("secret_key_file", "and `secret_key` exclude each other")
    if config.secret_key is not None and len(config.secret_key) < SHORTEST_SECRET_KEY:
        refuse("secret_key", f"must have at least {SHORTEST_SECRET_KEY} characters")
    if "*" in auth.security.cors.allowed_origins and auth.security.cors.allow_credentials:
        refuse("auth.security.cors.allow_credentials", "cannot be true while `auth.security.cors.allowed_origins` has `*`")
    for origin in auth.security.cors.allowed_origins:
        if origin != "*" and not _is_origin(origin):
            refuse(
                "auth.security.cors.allowed_origins",
                f"has {origin!r}, which is neither `*` nor an origin: write scheme://host or scheme://host:port as a browser does,"
                " in small letters, without the scheme's own port and without a path",
            )
    for name in ("header_name", "email_header_name", "groups_field_name", "provider_field_name"):
        if not TOKEN.fullmatch(getattr(auth.proxy_header, name)):
            refuse(f"auth.proxy_header.{name}", "must be the name of a header: letters, digits and !#$%&'*+-.^_`|~ alone")
    password = auth.native.password
    if password.min_length > password.max_length:
        refuse("auth.native.password.min_length", "is above `auth.native.password.max_length`", "auth.native.password.max_length")
    if config.admin_password is not None:
        length = len(config.admin_password.encode("utf-8", "surrogatepass"))
        if not password.min_length <= length <= password.max_length:
            refuse("admin_password", f"must have {password.min_length} to {password.max_length} bytes, as `auth.native.password` says")
    if password.argon2_memory_kib < 8 * password.argon2_parallelism:
        refuse("auth.native.password.argon2_parallelism", "needs 8 KiB of `auth.native.password.argon2_memory_kib` for each lane")
    if not TOKEN.fullmatch(auth.native.session.cookie_name):
        refuse("auth.native.session.cookie_name", "can have letters, digits and !#$%&'*+-.^_`|~ alone")
    if journal.max_bytes < 2 * journal.segment_bytes:
        refuse("journal.max_bytes", "must have room for two files of `journal.segment_bytes`", "journal.segment_bytes")
    if not CURRENCY.fullmatch(config.billing.currency):
        refuse("billing.currency", f"{config.billing.currency!r} is not a currency's code of three capital letters, such as EUR")
    for role in auth.default_user_roles:
        if role not in ROLES:
            refuse("auth.default_user_roles", f"has {role!r}, which is not one of {', '.join(ROLES)}")
    url, direct_url = config.database.url, config.database.direct_url
    if url is not None and not url.startswith((*POSTGRESQL, "sqlite:")):
        refuse("database.url", "must begin with postgres:// or postgresql://; without it SQLite in `data_dir` is used")
    if direct_url is not None and not direct_url.startswith(POSTGRESQL):
        refuse("database.direct_url", "must begin with postgres:// or postgresql://")
    if direct_url is not None and (url is None or not url.startswith(POSTGRESQL)):
        refuse("database.direct_url", "needs `database.url` beside it, the address of the pooler to PostgreSQL")
