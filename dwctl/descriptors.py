"""File descriptors: as many as this process may have, and a word in the log when there is none left.

Every connection takes one. The usual soft limit, 1024, is for the sake of programs that call select(2), and far too low for a server:
setrlimit(2) lets each process raise its own up to the hard limit. Beyond that libuv closes new connections without telling anybody.
"""

import asyncio
import contextlib
import os
import resource

import structlog

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_QUIET_SECONDS = 60.0


def allow_all() -> None:
    """Raise the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def watch() -> None:
    """Look every second, for ever, and say in the log that none is left, once a minute."""
    while True:
        error = _shortage()
        if error is not None:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.error(
                "no_file_descriptor_left",
                error=error,
                limit=limit,
                consequence="connections are closed unanswered",
                remedy="raise LimitNOFILE of the service, or ulimit -n",
            )
        await asyncio.sleep(_LOOK_SECONDS if error is None else _QUIET_SECONDS)


def _shortage() -> str | None:
    """What is wrong if no file can be opened, and nothing if one can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.strerror
    return None
