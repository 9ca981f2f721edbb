"""No secret reaches a log line, by whichever way it comes; lines are what the format promises."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from dwctl.telemetry import logging as dwctl_logging
from dwctl.telemetry.alarms import alarm
from dwctl.telemetry.metrics import REGISTRY
from dwctl.telemetry.redaction import HIDDEN, redact, redact_text

KEY = "sk-canaryCANARY0123456789_-canaryCANARY0123456"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.parametrize("format", ["console", "json"])
def test_secrets_are_hidden_wherever_they_stand(format: str) -> None:
    out = io.StringIO()
    dwctl_logging.configure("debug", format, out)  # type: ignore[arg-type]
    log = structlog.get_logger()
    log.info(f"called with {KEY}", url=f"http://u:canary@h/?key={KEY}", raw=f"Authorization: Bearer {KEY}".encode())
    log.info("by name", password="canary", api_key="canary", headers={"Authorization": "canary", "x-api-key": "canary"})
    log.info("nested", items=[("cookie", "canary"), {"deep": {"admin_password": "canary"}}], object=ValueError(KEY))
    log.info("bound", **{KEY: "value"})
    logging.getLogger("library").warning("said %s", f"Bearer {'canary' * 3}", extra={"token": "canary"})
    for logger in (log, logging.getLogger("library")):
        try:
            raise RuntimeError(f"failed with {KEY} and postgres://user:canary@host/db")
        except RuntimeError:
            logger.exception("boom")
    text = out.getvalue()
    assert "canary" not in text.lower()
    assert text.count("RuntimeError") >= 2
    assert HIDDEN in text


def test_json_lines_keep_what_is_no_secret() -> None:
    out = io.StringIO()
    dwctl_logging.configure("info", "json", out)
    structlog.get_logger().info("settled", tokens=12, prompt_tokens=3, key_id="k1", path="/ai/v1/models", cost=None, complete=True)
    logging.getLogger("library").warning("plain")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert {name: first[name] for name in ("event", "level", "tokens", "prompt_tokens", "key_id", "path", "cost", "complete")} == {
        "event": "settled",
        "level": "info",
        "tokens": 12,
        "prompt_tokens": 3,
        "key_id": "k1",
        "path": "/ai/v1/models",
        "cost": None,
        "complete": True,
    }
    assert (second["event"], second["logger"]) == ("plain", "library")


def test_the_level_holds_for_ours_and_for_libraries() -> None:
    out = io.StringIO()
    dwctl_logging.configure("warning", "json", out)
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    structlog.get_logger().warning("loud")
    logging.getLogger("library").error("loud")
    assert "quiet" not in out.getvalue()
    assert out.getvalue().count("loud") == 2


def test_a_newline_in_a_value_does_not_forge_a_line() -> None:
    out = io.StringIO()
    dwctl_logging.configure("info", "json", out)
    structlog.get_logger().info("event", path='/x\n{"event": "forged"}')
    assert len(out.getvalue().splitlines()) == 1


@given(st.from_regex(r"sk-[A-Za-z0-9_-]{8,60}", fullmatch=True), st.text(" .,:;/\"'()[]{}", max_size=3), st.text(" .,:;/\"'()", max_size=3))
def test_every_key_in_a_text_is_hidden(key: str, before: str, after: str) -> None:
    assert key not in redact_text(f"{before}{key}{after}")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_is_redacted_can_be_written_as_json(value: object) -> None:
    json.dumps(redact(value))


def test_an_alarm_is_a_line_and_a_count() -> None:
    out = io.StringIO()
    dwctl_logging.configure("error", "json", out)
    names = {"component": "cellar", "operation": "flooded", "severity": "critical"}
    for count in (1, 2):
        alarm("cellar", "flooded", "critical", path="/cellar", password="canary")
        assert REGISTRY.get_sample_value("dwctl_background_errors_total", names) == count
    line = json.loads(out.getvalue().splitlines()[0])
    assert (line["event"], line["level"], line["path"], line["password"]) == ("cellar.flooded", "critical", "/cellar", HIDDEN)


def test_a_log_that_cannot_be_written_fails_nobody() -> None:
    with open("/dev/full", "wb", buffering=0) as disk:
        dwctl_logging.configure("info", "json", io.TextIOWrapper(disk, write_through=True))
        structlog.get_logger().error("lost")
        logging.getLogger("library").error("lost, too")
