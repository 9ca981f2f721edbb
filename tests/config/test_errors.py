"""What a wrong configuration is told: the place, the key, and the nearest right one."""

import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from dwctl import config
from dwctl.errors import ConfigurationError
from tests.certificates import self_signed

CORS = "dwctl.yaml:1: `auth.security.cors.allowed_origins`"


def refusal(folder: Path, text: str) -> str:
    path = folder / "dwctl.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        config.load(path, {})
    return str(caught.value).replace(str(folder) + "/", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host: x\nprot: 1", "dwctl.yaml:2: unknown key `prot`; the nearest key is `port`"),
        ("limits:\n  request:\n    max_body_size: 1", "dwctl.yaml:2: unknown key `limits.request`; the nearest key is `limits.requests`"),
        ("max_body_size: 4", "dwctl.yaml:1: unknown key `max_body_size`; the nearest key is `limits.requests.max_body_size`"),
        ("auth:\n  native:\n\n    sesion: {}", "dwctl.yaml:4: unknown key `auth.native.sesion`; the nearest key is `auth.native.session`"),
        ("tls: {zzz: 1}", "dwctl.yaml:1: unknown key `tls.zzz`; here can stand: certificate, key"),
        (
            "auth.native.enabled: true",
            "dwctl.yaml:1: unknown key `auth.native.enabled`; groups are nested: `auth: {native: {enabled: ...}}`",
        ),
        (
            "auth:\n  security.cors: {}",
            "dwctl.yaml:2: unknown key `auth.security.cors`; groups are nested: `auth: {security: {cors: ...}}`",
        ),
        ("port: abc", "dwctl.yaml:1: `port` 'abc': is not a whole number"),
        ("port: [1, 2]", "dwctl.yaml:1: `port` 1, 2: takes a whole number, not a list"),
        ("port: {a: 1}", "dwctl.yaml:1: `port` takes a whole number"),
        ("port: 70000", "dwctl.yaml:1: `port` is above 65535"),
        ("port:", "dwctl.yaml:1: `port` has no value"),
        ("port: 3\nhost: a\nport: 4", "dwctl.yaml:3: `port` was already set on line 1"),
        ("limits: 3", "dwctl.yaml:1: `limits` is a group of keys: requests"),
        ("timeouts: {idle: 0}", "dwctl.yaml:1: `timeouts.idle` '0': expected `float` > 0.0"),
        ("timeouts: {idle: inf}", "dwctl.yaml:1: `timeouts.idle` 'inf': is not a duration"),
        ("billing: {holds: maybe}", "dwctl.yaml:1: `billing.holds` 'maybe': is not one of expected, strict, off"),
        ("email: {type: pigeon}", "dwctl.yaml:1: `email.type` 'pigeon': is not one of file, smtp"),
        ("trusted_proxies: [10.0.0.0/33]", "dwctl.yaml:1: `trusted_proxies` 10.0.0.0/33: "),
        ("bodies: {retention: 7x}", "dwctl.yaml:1: `bodies.retention` '7x': is not a duration"),
        ('data_dir: "a\\0b"', "dwctl.yaml:1: `data_dir` 'a\\x00b': has a character that no path has"),
        ("data_dir: ~nosuch/x", "dwctl.yaml:1: `data_dir` '~nosuch/x': names the home of a user who is not known; write the whole path"),
        ("enable_metrics: maybe", "dwctl.yaml:1: `enable_metrics` 'maybe': is neither true nor false"),
        (
            "auth: {rate_limits: {verified: {requests_per_second: 1e-7}}}",
            "dwctl.yaml:1: `auth.rate_limits.verified.requests_per_second` '1e-7': expected `float` >= 1e-06",
        ),
        ("auth: {rate_limits: {verified: {burst_size: 3}}}", "dwctl.yaml:1: `auth.rate_limits.verified.requests_per_second` is missing"),
        ("credits: {initial_credits_for_standard_users: 0.0000000001}", "dwctl.yaml:1: `credits.initial_credits_for_standard_users`"),
        ("metrics: {token: ''}", "dwctl.yaml:1: `metrics.token`: is empty"),
        ("host: " + "[" * 5_000, "dwctl.yaml: is nested too deeply"),
        ("- a\n- b", "dwctl.yaml:1: a mapping of keys is expected"),
        ("a: [", "dwctl.yaml:1: is not YAML"),
        ("a: 'x\n\0'", "dwctl.yaml: is not YAML"),
    ],
)
def test_the_place_and_the_nearest_key_are_named(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auth: {proxy_header: {enabled: true}}", "dwctl.yaml:1: `auth.proxy_header.enabled` needs `trusted_proxies`"),
        ("tls:\n  key: /dev/null", "dwctl.yaml:2: `tls.key` needs `tls.certificate`"),
        ("tls: {key: /no/such, certificate: /dev/null}", "dwctl.yaml:1: `tls.key` names /no/such, which cannot be read"),
        ("secret_key: a\nsecret_key_file: /dev/null", "dwctl.yaml:2: `secret_key_file` and `secret_key` exclude each other"),
        (
            "auth: {security: {cors: {allowed_origins: ['*'], allow_credentials: true}}}",
            "dwctl.yaml:1: `auth.security.cors.allow_credentials`",
        ),
        *(
            (f"auth: {{security: {{cors: {{allowed_origins: ['https://a.b', '{wrong}']}}}}}}", f"{CORS} has '{wrong}', which is neither")
            for wrong in (
                *("a.b", "https://a.b/path", "https://a.b?q", "https://A.b", "https://u:p@a.b", "https://*.a.b", "https://", "null"),
                *("https://a.b:443", "http://a.b:80", "https://a.b:0", "https://a.b:65536", "https://a.b:port", "https://a.b//"),
            )
        ),
        *(
            (f"auth:\n  proxy_header:\n    {name}: '{wrong}'", f"dwctl.yaml:3: `auth.proxy_header.{name}` must be the name of a header")
            for name, wrong in (
                ("header_name", "X User"),
                ("email_header_name", ""),
                ("groups_field_name", "x-groups:"),
                ("provider_field_name", "x-é"),
            )
        ),
        ("auth: {native: {password: {min_length: 65}}}", "dwctl.yaml:1: `auth.native.password.min_length` is above"),
        ("journal:\n  segment_bytes: 1GiB", "dwctl.yaml:2: `journal.max_bytes` must have room"),
        ("admin_password: canary", "dwctl.yaml:1: `admin_password` must have 8 to 64 bytes"),
        ("host: a..b", "dwctl.yaml:1: `host` 'a..b' is neither an IP address nor the name of a host"),
        ("host: 127.0.0.1:3001", "dwctl.yaml:1: `host` '127.0.0.1:3001' is neither"),
        ("host: '[::1]'", "dwctl.yaml:1: `host` '[::1]' is neither"),
        ("host: ''", "dwctl.yaml:1: `host` '' is neither"),
        ("dashboard_url: llm.example.com", "dwctl.yaml:1: `dashboard_url` must begin with https:// or http:// and name a host"),
        ("dashboard_url: 'http://'", "dwctl.yaml:1: `dashboard_url` must begin with https:// or http:// and name a host"),
        ("dashboard_url: 'https://:443/x'", "dwctl.yaml:1: `dashboard_url` must begin with https:// or http:// and name a host"),
        ("dashboard_url: 'https://[::1/'", "dwctl.yaml:1: `dashboard_url` must begin with https:// or http:// and name a host"),
        ("dashboard_url: 'https://host:port/'", "dwctl.yaml:1: `dashboard_url` must begin with https:// or http:// and name a host"),
        ("billing: {currency: xyzzy}", "dwctl.yaml:1: `billing.currency` 'xyzzy' is not a currency's code of three capital letters"),
        ("admin_email: x", "dwctl.yaml:1: `admin_email` is not an e-mail address"),
        ("port: 1\nadmin_email: System@Internal", "dwctl.yaml:2: `admin_email` system@internal is the account of the system itself"),
        ("port: 1\nsecret_key: canary", "dwctl.yaml:2: `secret_key` must have at least 16 characters"),
        ("auth: {native: {password: {argon2_memory_kib: 999999999999}}}", "dwctl.yaml:1: `auth.native.password.argon2_memory_kib` '9"),
        ("auth: {native: {password: {argon2_memory_kib: 8, argon2_parallelism: 2}}}", "dwctl.yaml:1: `auth.native.password.argon2_par"),
        ("auth: {native: {session: {timeout: 1e300}}}", "dwctl.yaml:1: `auth.native.session.timeout` '1e300': is longer than"),
        ("auth: {native: {session: {cookie_name: a; Domain=x}}}", "dwctl.yaml:1: `auth.native.session.cookie_name` can have"),
        ('auth: {native: {session: {cookie_name: "a\\r\\nb"}}}', "dwctl.yaml:1: `auth.native.session.cookie_name` can have"),
        ("auth: {default_user_roles: [Boss]}", "dwctl.yaml:1: `auth.default_user_roles` has 'Boss'"),
        ("database: {url: 'mysql://u:canary@h/d'}", "dwctl.yaml:1: `database.url` must begin with postgres://"),
        ("database:\n  url: postgres://h/d\n  direct_url: h/canary", "dwctl.yaml:3: `database.direct_url` must begin with postgres://"),
        ("database: {direct_url: 'postgres://u:canary@h/d'}", "dwctl.yaml:1: `database.direct_url` needs `database.url` beside it"),
        ("database:\n  url: sqlite:///d\n  direct_url: postgres://h/d", "dwctl.yaml:3: `database.direct_url` needs `database.url`"),
    ],
)
def test_rules_between_keys(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


def test_a_variable_is_named_as_it_was_written() -> None:
    with pytest.raises(ConfigurationError, match="variable DWCTL_PROT: unknown key `prot`; the nearest key is DWCTL_PORT"):
        config.load(None, {"DWCTL_PROT": "1"})
    with pytest.raises(ConfigurationError, match=r"unknown key `log\.levle`; the nearest key is DWCTL_LOG__LEVEL"):
        config.load(None, {"DWCTL_LOG__LEVLE": "debug"})
    with pytest.raises(ConfigurationError) as caught:
        config.load(None, {"DWCTL_LOG": "debug"})
    said = "environment variable DWCTL_LOG: unknown key `log`; it is a group, with the variables "
    assert str(caught.value) == f"{said}DWCTL_LOG__LEVEL, DWCTL_LOG__FORMAT, DWCTL_LOG__REQUESTS"
    with pytest.raises(ConfigurationError, match=r"with the variables DWCTL_AUTH__NATIVE__\.\.\., DWCTL_AUTH__PROXY_HEADER__\.\.\., "):
        config.load(None, {"DWCTL_AUTH": "debug"})
    with pytest.raises(ConfigurationError, match="env DWCTL_PORT: `port` 'x'"):
        config.load(None, {"DWCTL_PORT": "x"})
    with pytest.raises(ConfigurationError, match="flag --port: `port` '-1': expected"):
        config.load(None, {}, {"port": -1})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the configuration file .*none\.yaml: No such file"):
        config.load(tmp_path / "none.yaml", {})
    (tmp_path / "latin.yaml").write_bytes(b"host: \xff\xfe\n")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        config.load(tmp_path / "latin.yaml", {})


def test_a_secret_is_not_quoted_back(tmp_path: Path) -> None:
    assert "canary" not in refusal(tmp_path, "secret_key: [canary-1]")
    assert "canary" not in refusal(tmp_path, "database: {url: 'mysql://u:canary@h/d'}")


@given(st.text())
def test_any_text_is_read_or_refused_with_its_name(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dwctl.yaml"
        path.write_text(text, "utf-8", errors="surrogatepass")
        try:
            config.load(path, {})
        except ConfigurationError as error:
            assert path.name in str(error)


@given(st.dictionaries(st.sampled_from([key.variable for key in config.keys().values()]), st.text(), max_size=3))
def test_any_variable_is_read_or_refused_with_its_name(environ: dict[str, str]) -> None:
    try:
        config.load(None, environ)
    except ConfigurationError as error:
        assert any(variable in str(error) for variable in environ)


def test_a_data_folder_is_tried_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "away")
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))

    def check(name: str) -> None:
        config.check_data_dir(config.load(None, {"DWCTL_DATA_DIR": str(tmp_path / name)}))

    for name in ("there", "there/..", "new", "there/a/b"):
        check(name)
    for name in ("file", "file/a/b", "nowhere", "nowhere/a"):
        with pytest.raises(ConfigurationError) as caught:
            check(name)
        assert str(caught.value).startswith(f"`data_dir` names {tmp_path / name}, which cannot be used: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("host", ["localhost", "::", "fe80::1%eth0", "0.0.0.0", "my_host.example.com."])
def test_hosts_that_can_be(host: str) -> None:
    assert config.load(None, {"DWCTL_HOST": host}).host == host


def test_origins_that_can_be() -> None:
    origins = ("https://app.example", "http://localhost:5173", "http://[::1]:8080", "https://a.b/", "chrome-extension://abcdef", "*")
    assert (
        config.load(None, {"DWCTL_AUTH__SECURITY__CORS__ALLOWED_ORIGINS": ", ".join(origins)}).auth.security.cors.allowed_origins == origins
    )


def test_what_a_certificate_and_its_key_lack_is_said_with_their_files(tmp_path: Path) -> None:
    pem, other, junk, locked = self_signed(tmp_path), tmp_path / "other", tmp_path / "junk", tmp_path / "locked"
    (tmp_path / "elsewhere").mkdir()
    other.write_bytes(self_signed(tmp_path / "elsewhere").read_bytes())
    junk.write_text("junk")
    private = serialization.load_pem_private_key(pem.read_bytes(), None)
    locked.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"passphrase")
        )
    )

    def said(certificate: Path, key: Path) -> str:
        settings = config.load(None, {"DWCTL_TLS__CERTIFICATE": str(certificate), "DWCTL_TLS__KEY": str(key)})
        with pytest.raises(ConfigurationError) as caught:
            config.tls_context(settings)
        return str(caught.value)

    for certificate, key, reason in [
        (pem, other, "KEY VALUES MISMATCH"),
        (junk, pem, "no PEM"),
        (pem, junk, "no PEM"),
        (tmp_path, pem, "Is a directory"),
    ]:
        text = said(certificate, key)
        assert f"`tls.certificate` names {certificate} and `tls.key` names {key}: " in text
        assert f"({reason}" in text
    assert said(pem, locked).startswith(f"`tls.key` names {locked}, which is encrypted")
    assert config.tls_context(config.load(None, {"DWCTL_TLS__CERTIFICATE": str(pem), "DWCTL_TLS__KEY": str(pem)})) is not None
