"""Logging: one stream, one line an event, for people or as JSON; never with a secret in it.

Our own events go through structlog straight to the stream; what libraries log with the standard library takes the same
processors, so that their lines look alike and are redacted alike.
"""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog

from dwctl.telemetry.redaction import redact, redact_text

Level = Literal["debug", "info", "warning", "error"]

# Libraries that tell at "info" what is none of an operator's business.
_QUIET = {"sanic": logging.WARNING, "tortoise": logging.WARNING, "aiosqlite": logging.WARNING, "asyncio": logging.WARNING}


# Set by our processors, or structlog's own.
_OURS = {"level", "timestamp"}


class _Forgiving:
    """A stream whose failure (a full disk, a reader that left) loses lines and nothing else: no request may fail for its log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {redact_text(name): value if name in _OURS or name.startswith("_") else redact(value, name) for name, value in event.items()}


def configure(level: Level = "info", format: Literal["console", "json"] = "console", stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging, once at start and again whenever the settings change.

    ``stream`` is the standard error unless another is given.
    """
    out = stream if stream is not None else sys.stderr
    forgiving = _Forgiving(out)
    threshold = getattr(logging, level.upper())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderer: Any
    if format == "json":
        renderer = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, forgiving)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(forgiving)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, threshold))
    logging.captureWarnings(True)
