"""Life inside the one-file program: die with the bootloader, leave no unpacked folder behind, start clean children.

Three things can end the one-file program. It ends by itself: the bootloader removes the folder. The bootloader is killed:
the kernel kills this process (PR_SET_PDEATHSIG) and a small keeper, forked at start, removes the folder. All of them are
killed: the next start removes the folder, recognised by its marker file and by nobody holding the marker's lock.
Linux only; prctl(2), pidfd_open(2), flock(2).
"""

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

MARKER = "dwctl.unpacked"
YOUNG = 120.0
PR_SET_PDEATHSIG = 1


def settle() -> None:
    """To be called first thing in the frozen program. Does not return if the bootloader is already gone."""
    bootloader = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    folder = Path(sys._MEIPASS)  # type: ignore[attr-defined]
    if not _same_program(bootloader):
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
    _restore_environment()
    _hold(folder)
    _fork_keeper(folder, bootloader)
    remove_leftovers(folder)


def _same_program(pid: int) -> bool:
    """Whether ``pid`` runs this executable; before that, a parent that died was replaced by init or a subreaper."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:
        return os.getppid() == pid  # /proc is hidden: at least it is still our parent


def _restore_environment() -> None:
    """Takes back what the bootloader set for itself, so that a program that we start finds its own libraries."""
    original = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if original is not None:
        os.environ["LD_LIBRARY_PATH"] = original
    else:
        os.environ.pop("LD_LIBRARY_PATH", None)


def _hold(folder: Path) -> int:
    """Locks the folder's marker for as long as the process lives: the descriptor is never closed."""
    descriptor = os.open(folder / MARKER, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _fork_keeper(folder: Path, bootloader: int) -> None:
    server = os.getpid()
    pid = os.fork()
    if pid:
        return
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        watched = []
        for process in (server, bootloader):
            with contextlib.suppress(ProcessLookupError):
                watched.append(os.pidfd_open(process))
        _close_all_but(watched)
        for descriptor in watched:
            select.select([descriptor], [], [])
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(0)


def _close_all_but(kept: list[int]) -> None:
    """The keeper holds no file of the server's: its listener, its locks and its output end with the server."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def remove_leftovers(own: Path) -> list[Path]:
    """Removes folders that killed programs of ours left beside ``own``; returns them.

    Ours: made by the bootloader, owned by this user, with our marker. Left: older than `YOUNG` seconds (another program
    may be unpacking just now) and its marker's lock is free.
    """
    removed = []
    for folder in own.parent.glob("_MEI*"):
        if folder == own or folder.is_symlink() or not _is_left(folder):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder)
    return removed


def _is_left(folder: Path) -> bool:
    try:
        status = folder.stat()
        descriptor = os.open(folder / MARKER, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        newest = max(status.st_mtime, os.fstat(descriptor).st_mtime)
        if status.st_uid != os.getuid() or time.time() - newest < YOUNG:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
