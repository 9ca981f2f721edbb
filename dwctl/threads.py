"""Work that would keep the event loop waiting, in two threads of its own.

The loop's own threads are for what everybody needs soon, such as passwords and names of hosts: long work must not hold them up.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_AT_ONCE = 2
_threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="work")


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What ``function`` returns, or raises; the work of others may come first."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(function, *args, **kwargs))
