"""Where values come from: defaults, file, environment, flags; and how their texts are read."""

from pathlib import Path

import pytest

from dwctl import config
from dwctl.errors import ConfigurationError


def write(folder: Path, text: str) -> Path:
    path = folder / "dwctl.yaml"
    path.write_text(text)
    return path


def test_without_anything_every_value_is_its_default() -> None:
    explained = config.explain(None, {})
    assert explained.origins == {}
    assert explained.config == config.Config()
    assert explained.config.port == 3001
    assert explained.config.host == "127.0.0.1"
    assert explained.config.auth.rate_limits.verified is None


def test_each_layer_overrides_the_one_before(tmp_path: Path) -> None:
    file = write(tmp_path, "port: 1001\nhost: 10.0.0.1\ndata_dir: /srv/file\nlog: {level: debug}\n")
    environ = {"DWCTL_PORT": "1002", "DWCTL_HOST": "10.0.0.2", "OTHER": "x"}
    explained = config.explain(file, environ, {"port": 1003, "host": None})
    assert explained.config.port == 1003
    assert explained.config.host == "10.0.0.2"
    assert explained.config.data_dir == Path("/srv/file")
    assert explained.origins["port"] == "flag --port"
    assert explained.origins["host"] == "env DWCTL_HOST"
    assert explained.origins["data_dir"] == f"{file}:3"
    assert explained.origins["log.level"] == f"{file}:4"
    assert "admin_email" not in explained.origins


def test_database_url_of_the_environment_wins_over_ours() -> None:
    environ = {"DATABASE_URL": "postgres://a/b", "DWCTL_DATABASE__URL": "postgres://c/d"}
    explained = config.explain(None, environ)
    assert explained.config.database.url == "postgres://a/b"
    assert explained.origins["database.url"] == "env DATABASE_URL"


def test_nested_variables_and_lists() -> None:
    loaded = config.load(
        None,
        {
            "DWCTL_LIMITS__REQUESTS__MAX_BODY_SIZE": "64KiB",
            "DWCTL_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1",
            "DWCTL_AUTH__NATIVE__ALLOW_REGISTRATION": "yes",
            "DWCTL_AUTH__RATE_LIMITS__VERIFIED__REQUESTS_PER_SECOND": "0.5",
            "DWCTL_ADMIN_PASSWORD": "",
        },
    )
    assert loaded.limits.requests.max_body_size == 65536
    assert loaded.trusted_proxies == ("10.0.0.0/8", "127.0.0.1")
    assert loaded.auth.native.allow_registration is True
    assert loaded.auth.rate_limits.verified is not None
    assert loaded.auth.rate_limits.verified.requests_per_second == 0.5
    assert loaded.auth.rate_limits.verified.burst_size is None
    assert loaded.auth.rate_limits.unverified is None
    assert loaded.admin_password is None


def test_texts_mean_what_they_say_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, "admin_password: 0123456789\nbilling: {holds: off}\nmetadata: {title: yes, region: 1.10}\n"), {})
    assert loaded.admin_password == "0123456789"
    assert loaded.billing.holds == "off"
    assert loaded.metadata.title == "yes"
    assert loaded.metadata.region == "1.10"


def test_null_and_empty_groups_leave_the_default(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, "auth:\nadmin_password: null\n# nothing else\n"), {})
    assert loaded == config.Config()
    assert config.load(write(tmp_path, ""), {}) == config.Config()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("250ms", 0.25), ("30s", 30), ("10m", 600), ("24h", 86400), ("7d", 604800), ("1h 30m", 5400), ("1m30s", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert config.load(None, {"DWCTL_TIMEOUTS__IDLE": text}).timeouts.idle == seconds


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("10", 10), ("1.5KiB", 1536), ("10MiB", 10485760), ("10 MB", 10**7), ("2gib", 2**31)])
def test_sizes(text: str, size: int) -> None:
    assert config.load(None, {"DWCTL_LIMITS__REQUESTS__MAX_BODY_SIZE": text}).limits.requests.max_body_size == size


def test_credits_are_exact(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, "credits:\n  initial_credits_for_standard_users: 0.100000001\n"), {})
    assert loaded.credits.initial_credits_for_standard_users == 100_000_001


def test_find_prefers_the_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.find(None, {}) is None
    write(tmp_path, "port: 1")
    assert config.find(None, {}) == Path("dwctl.yaml")
    assert config.find(None, {"DWCTL_CONFIG": "/etc/d.yaml"}) == Path("/etc/d.yaml")
    assert config.find("x.yaml", {"DWCTL_CONFIG": "/etc/d.yaml"}) == Path("x.yaml")


def test_the_sealing_text_comes_from_the_key_or_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("text from the file\n")
    assert config.secret_key(config.load(None, {"DWCTL_SECRET_KEY_FILE": str(file)})) == "text from the file"
    assert config.secret_key(config.load(None, {"DWCTL_SECRET_KEY": "text that is given"})) == "text that is given"
    assert config.secret_key(config.Config()) is None
    with pytest.raises(ConfigurationError, match="is needed with PostgreSQL"):
        config.secret_key(config.load(None, {"DATABASE_URL": "postgres://h/d"}))
    for text, said in (("\n", "empty"), ("short\n", "must have at least 16 characters")):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=f"`secret_key_file` names {file}, which.*{said}"):
            config.secret_key(config.load(None, {"DWCTL_SECRET_KEY_FILE": str(file)}))


def test_secrets_are_shown_by_nothing() -> None:
    environ = {"DWCTL_ADMIN_PASSWORD": "canary-1", "DWCTL_SECRET_KEY": "canary-2 of a key", "DATABASE_URL": "postgres://u:canary-3@h/d"}
    environ |= {"DWCTL_METRICS__TOKEN": "canary-4", "DWCTL_DATABASE__DIRECT_URL": "postgres://u:canary-5@h/d"}
    explained = config.explain(None, environ)
    shown = repr(explained.config) + str(explained.config) + repr(explained.config.metrics) + str(list(explained.lines()))
    assert "canary" not in shown
    lines = {path: (value, origin) for path, value, origin in explained.lines()}
    assert lines["admin_password"] == ("(hidden)", "env DWCTL_ADMIN_PASSWORD")
    assert lines["database.direct_url"] == ("(hidden)", "env DWCTL_DATABASE__DIRECT_URL")
    assert lines["port"] == ("3001", "default")
    assert set(lines) == set(config.keys())
