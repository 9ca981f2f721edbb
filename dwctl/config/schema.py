"""Every configuration key: its name, type, default, bounds and what it does.

The structs below are the one source: the loader, ``check-config`` and docs/configuration.md are made from them. Durations
are seconds (float) and sizes bytes (int) once loaded; amounts of credits are nano-credits (int).
"""

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

Role = Literal[
    "PlatformManager", "StandardUser", "RequestViewer", "BillingManager", "BatchAPIUser", "ConnectionsUser", "BackgroundInferenceUser"
]
ROLES: tuple[Role, ...] = typing.get_args(Role)
BodyMode = Literal["full", "preview", "none"]
"""What is kept of a body: all of it, its beginning, nothing."""

Kind = Literal["duration", "size", "credits", "cidrs", "path", "plain"]


def meaning(description: str, kind: Kind = "plain", *, secret: bool = False, **bound: float) -> msgspec.Meta:
    """What a field means. ``kind`` says how its text is read, ``secret`` that it is never shown; ``bound`` is ``gt``, ``ge`` or ``le``."""
    return msgspec.Meta(description=description, extra={"kind": kind, "secret": secret}, **bound)  # type: ignore[call-overload,no-any-return]


_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


SYSTEM_EMAIL = "system@internal"
"""The address of the account of the system itself, which is no person's."""


def is_email(text: str) -> bool:
    """Whether this can be an e-mail address of an account."""
    return len(text) <= 320 and _EMAIL.fullmatch(text) is not None and text.isprintable()


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of keys. It prints its name alone, since values may be secrets; `explain` shows them with secrets hidden."""

    def __repr__(self) -> str:
        return f"<configuration {type(self).__name__}>"


def section(kind: type[Section]) -> Any:
    return msgspec.field(default_factory=kind)


class Database(Section, frozen=True):
    url: Annotated[
        str | None,
        meaning("`postgres://user:password@host:port/name`. Absent: SQLite in `data_dir`. Also read from `DATABASE_URL`.", secret=True),
    ] = None
    direct_url: Annotated[
        str | None,
        meaning("The server's own address, where `database.url` is that of a pooler in transaction mode (PgBouncer).", secret=True),
    ] = None


class Tls(Section, frozen=True):
    certificate: Annotated[Path | None, meaning("PEM file with the certificate chain. With `tls.key`: HTTPS.", "path")] = None
    key: Annotated[Path | None, meaning("PEM file with the private key.", "path")] = None


class Metadata(Section, frozen=True):
    region: Annotated[str | None, meaning("Where this server stands, for programs that ask `/admin/api/v1/config`.")] = None
    organization: Annotated[str | None, meaning("Who runs this server, for programs that ask `/admin/api/v1/config`.")] = None
    docs_url: Annotated[str | None, meaning("Where users find documentation.")] = None
    docs_jsonl_url: Annotated[str | None, meaning("Where users find the documentation as JSON lines.")] = None
    title: Annotated[str | None, meaning("Name of this installation, as shown to users.")] = None
    ai_api_base_url: Annotated[str | None, meaning("Public base URL of the inference API, as shown to users.")] = None


class Password(Section, frozen=True):
    min_length: Annotated[int, meaning("Shortest password accepted, in bytes.", ge=1)] = 8
    max_length: Annotated[int, meaning("Longest password accepted, in bytes.", ge=1)] = 64
    argon2_memory_kib: Annotated[int, meaning("Memory that hashing one password takes, in KiB.", ge=8, le=4 * 1024**2)] = 19456
    argon2_iterations: Annotated[int, meaning("Passes over that memory.", ge=1, le=1000)] = 2
    argon2_parallelism: Annotated[int, meaning("Lanes that are computed side by side.", ge=1, le=64)] = 1


class Session(Section, frozen=True):
    timeout: Annotated[float, meaning("How long a sign-in lasts.", "duration", gt=0)] = 86400.0
    cookie_name: Annotated[str, meaning("Name of the session cookie; over HTTPS it gets the prefix `__Host-`.")] = "dwctl_session"
    cookie_same_site: Annotated[Literal["strict", "lax", "none"], meaning("`SameSite` of the session cookie.")] = "strict"


class Native(Section, frozen=True):
    enabled: Annotated[bool, meaning("Whether people sign in with an e-mail address and a password.")] = True
    allow_registration: Annotated[bool, meaning("Whether anyone may make an account, by `POST /authentication/register`.")] = False
    password: Password = section(Password)
    password_reset_token_duration: Annotated[float, meaning("How long a link to choose a new password works.", "duration", gt=0)] = 3600.0
    session: Session = section(Session)


class ProxyHeader(Section, frozen=True):
    enabled: Annotated[
        bool, meaning("Whether a proxy in front signs people in by headers, which it must replace, not add. Needs `trusted_proxies`.")
    ] = False
    header_name: Annotated[str, meaning("Header with the user's id at the identity provider.")] = "x-doubleword-user"
    email_header_name: Annotated[str, meaning("Header with the user's e-mail address; absent, the id is taken.")] = "x-doubleword-email"
    groups_field_name: Annotated[str, meaning("Header with the user's groups, separated by commas.")] = "x-doubleword-user-groups"
    provider_field_name: Annotated[str, meaning("Header with the identity provider's name.")] = "x-doubleword-sso-provider"
    import_idp_groups: Annotated[bool, meaning("Whether the groups in the header become the user's groups.")] = False
    blacklisted_sso_groups: Annotated[tuple[str, ...], meaning("Groups that are never imported.")] = ()
    auto_create_users: Annotated[bool, meaning("Whether an unknown user gets an account at first sight.")] = True

    @property
    def names(self) -> tuple[str, ...]:
        """The headers that sign somebody in, in lower case."""
        named = (self.header_name, self.email_header_name, self.groups_field_name, self.provider_field_name)
        return tuple(name.lower() for name in named)


MIN_RATE, MAX_RATE = 1e-6, 1e9
"""Requests a second: one in twelve days, and more than any machine serves."""


class RateLimit(Section, frozen=True):
    requests_per_second: Annotated[
        float,
        meaning(
            "Requests a second, fractions included, of each key without a limit of its own: of verified users, or of all others.",
            ge=MIN_RATE,
            le=MAX_RATE,
        ),
    ]
    burst_size: Annotated[int | None, meaning("Requests that may come at once; absent: the rate, rounded up.", ge=1)] = None


class RateLimits(Section, frozen=True):
    verified: RateLimit | None = None
    unverified: RateLimit | None = None


class Cors(Section, frozen=True):
    allowed_origins: Annotated[
        tuple[str, ...],
        meaning(
            "Origins, such as `https://app.example`, whose pages may call the API, models included, from a browser; `*` for every one."
        ),
    ] = ()
    allow_credentials: Annotated[bool, meaning("Whether those pages may send the session cookie. Not together with `*`.")] = False
    max_age: Annotated[float, meaning("How long a browser may remember the answer.", "duration", ge=0)] = 3600.0


class Security(Section, frozen=True):
    cors: Cors = section(Cors)


class Auth(Section, frozen=True):
    native: Native = section(Native)
    proxy_header: ProxyHeader = section(ProxyHeader)
    default_user_roles: Annotated[tuple[str, ...], meaning(f"Roles of a new account: {', '.join(ROLES)}. The last three open nothing.")] = (
        "StandardUser",
    )
    rate_limits: RateLimits = section(RateLimits)
    security: Security = section(Security)


class RequestLimits(Section, frozen=True):
    max_body_size: Annotated[
        int, meaning("Largest body of a model call; `0`: no limit. Other requests may have 1 MiB, of strangers 16 KiB.", "size", ge=0)
    ] = 10 * 1024 * 1024


class Limits(Section, frozen=True):
    requests: RequestLimits = section(RequestLimits)


class Timeouts(Section, frozen=True):
    connect: Annotated[float, meaning("To connect to a provider.", "duration", gt=0)] = 10.0
    first_byte: Annotated[float, meaning("From the request sent to the provider's first byte.", "duration", gt=0)] = 600.0
    idle: Annotated[float, meaning("Between two pieces of a provider's answer.", "duration", gt=0)] = 300.0
    total: Annotated[float, meaning("For a whole request, first byte in to last byte out.", "duration", gt=0)] = 3600.0
    client_write: Annotated[float, meaning("How long a client may take nothing of its answer.", "duration", gt=0)] = 60.0
    request_read: Annotated[float, meaning("For a client to send its request.", "duration", gt=0)] = 60.0


class Billing(Section, frozen=True):
    holds: Annotated[
        Literal["expected", "strict", "off"],
        meaning("What a request reserves before it is sent: its likely cost, the most it can cost, or nothing. See billing.md."),
    ] = "expected"
    currency: Annotated[str, meaning("What one credit is worth, as shown to users: a currency's ISO 4217 code.")] = "USD"
    default_output_hold: Annotated[int, meaning("Output tokens reserved for a request that names no bound.", ge=1)] = 4096


class Journal(Section, frozen=True):
    sync: Annotated[
        Literal["interval", "always"],
        meaning("When the journal reaches the disk: a few times a second, or before each answer is completed."),
    ] = "interval"
    max_bytes: Annotated[int, meaning("Most disk that records waiting for the database may take.", "size", ge=8192)] = 1024**3
    segment_bytes: Annotated[int, meaning("Size of one journal file.", "size", ge=4096)] = 16 * 1024 * 1024


class Records(Section, frozen=True):
    anonymous_per_second: Annotated[float, meaning("Refusals without a known key that get a row each; more are only counted.", ge=0)] = 10.0


class Bodies(Section, frozen=True):
    mode: Annotated[
        BodyMode, meaning("What is kept of bodies, and of providers' complaints, where neither the key nor the model says it.")
    ] = "preview"
    preview_bytes: Annotated[int, meaning("How much of a body a preview keeps.", "size", ge=0)] = 4096
    retention: Annotated[float, meaning("How long bodies are kept.", "duration", gt=0)] = 7 * 86400.0


class Credits(Section, frozen=True):
    initial_credits_for_standard_users: Annotated[
        int,
        meaning(
            "Credits that a new account starts with; the first administrator, and whom `dwctl apply` makes, start with none.",
            "credits",
            ge=0,
        ),
    ] = 0


class Metrics(Section, frozen=True):
    allow: Annotated[tuple[str, ...], meaning("Networks that may read `/internal/metrics`, besides this machine.", "cidrs")] = ()
    token: Annotated[str | None, meaning("Bearer token that may read `/internal/metrics` from anywhere.", secret=True)] = None


class Log(Section, frozen=True):
    level: Annotated[Literal["debug", "info", "warning", "error"], meaning("Least severity that is logged.")] = "info"
    format: Annotated[Literal["console", "json"], meaning("Lines for people, or one JSON object a line.")] = "console"
    requests: Annotated[
        bool, meaning("Whether each request is logged, but for those of `/healthz`, `/readyz` and `/internal/metrics`.")
    ] = False


class Email(Section, frozen=True):
    type: Annotated[
        Literal["file", "smtp"] | None,
        meaning("How mail leaves: as files in a folder, or by SMTP. Absent: there is no mail, and an administrator resets passwords."),
    ] = None
    path: Annotated[Path | None, meaning("Folder for mail of type `file`; absent: `emails` in `data_dir`.", "path")] = None
    host: Annotated[str | None, meaning("SMTP server.")] = None
    port: Annotated[int, meaning("Port of the SMTP server.", ge=1)] = 587
    username: Annotated[str | None, meaning("Name to sign in to the SMTP server with; absent: without signing in.")] = None
    password: Annotated[str | None, meaning("Password for the SMTP server.", secret=True)] = None
    use_tls: Annotated[bool, meaning("Whether the connection is encrypted (STARTTLS; from the start on port 465).")] = True
    from_email: Annotated[str, meaning("Address that mail comes from.")] = "dwctl@localhost"
    from_name: Annotated[str, meaning("Name that mail comes from.")] = "dwctl"
    reply_to: Annotated[str | None, meaning("Address that answers go to.")] = None


class Shutdown(Section, frozen=True):
    drain_timeout: Annotated[float, meaning("How long requests may take to end and be read after SIGTERM.", "duration", ge=0)] = 120.0


class Openapi(Section, frozen=True):
    admin_enabled: Annotated[bool, meaning("Whether `/admin/openapi.json` is served.")] = True
    ai_enabled: Annotated[bool, meaning("Whether `/ai/openapi.json` is served.")] = True


class Config(Section, frozen=True):
    host: Annotated[str, meaning("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, meaning("Port to listen on; `0` takes a free one.", ge=0)] = 3001
    data_dir: Annotated[Path, meaning("Folder of everything that the server keeps on disk.", "path")] = Path("dwctl-data")
    admin_email: Annotated[str, meaning("E-mail address of the first administrator.")] = "admin@localhost"
    admin_password: Annotated[
        str | None,
        meaning("First administrator's password, used while the account has none. Absent: one is made and printed once.", secret=True),
    ] = None
    secret_key: Annotated[
        str | None,
        meaning("Text that stored credentials are sealed with. Needed on PostgreSQL; on SQLite a file in `data_dir` does.", secret=True),
    ] = None
    secret_key_file: Annotated[Path | None, meaning("File that holds `secret_key`.", "path")] = None
    trusted_proxies: Annotated[tuple[str, ...], meaning("Networks whose `X-Forwarded-*` and sign-in headers are believed.", "cidrs")] = ()
    dashboard_url: Annotated[str | None, meaning("Public address of the pages, which links in mail begin with.")] = None
    enable_metrics: Annotated[bool, meaning("Whether `/internal/metrics` is served.")] = True
    database: Database = section(Database)
    tls: Tls = section(Tls)
    metadata: Metadata = section(Metadata)
    auth: Auth = section(Auth)
    limits: Limits = section(Limits)
    timeouts: Timeouts = section(Timeouts)
    billing: Billing = section(Billing)
    journal: Journal = section(Journal)
    records: Records = section(Records)
    bodies: Bodies = section(Bodies)
    credits: Credits = section(Credits)
    metrics: Metrics = section(Metrics)
    log: Log = section(Log)
    email: Email = section(Email)
    shutdown: Shutdown = section(Shutdown)
    openapi: Openapi = section(Openapi)


@dataclass(frozen=True)
class Key:
    """One leaf of the configuration. ``annotation`` has the bounds; ``type`` is bare and without None; ``required``: no default."""

    path: str
    annotation: Any
    type: Any
    optional: bool
    required: bool
    default: Any
    kind: Kind
    secret: bool
    description: str

    @property
    def variable(self) -> str:
        """The environment variable that sets this key."""
        return "DWCTL_" + self.path.upper().replace(".", "__")


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds (also an optional one), or None for a leaf."""
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


@cache
def hints(kind: type[Section]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _walk(kind: type[Section], prefix: str) -> Iterator[Key]:
    for field in msgspec.structs.fields(kind):
        path, annotation = prefix + field.name, hints(kind)[field.name]
        inner = section_of(annotation)
        if inner is not None:
            yield from _walk(inner, path + ".")
            continue
        bare, meta = typing.get_args(annotation)
        options = [option for option in typing.get_args(bare) if option is not types.NoneType]
        optional = len(options) < len(typing.get_args(bare))
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        held = options[0] if optional else bare
        yield Key(
            path=path,
            annotation=Annotated[held, meta],
            type=held,
            optional=optional,
            required=default is msgspec.NODEFAULT,
            default=None if default is msgspec.NODEFAULT else default,
            kind=meta.extra["kind"],
            secret=meta.extra["secret"],
            description=meta.description,
        )


@cache
def keys() -> dict[str, Key]:
    """Every leaf by its dotted path, in the order of the structs."""
    return {key.path: key for key in _walk(Config, "")}
