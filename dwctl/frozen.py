"""Life inside the one-file program: die with the bootloader, leave no unpacked folder behind, start clean children.

Three things can end the one-file program. It ends by itself: the bootloader removes the folder. The bootloader is killed:
the kernel kills this process (PR_SET_PDEATHSIG) and a keeper, started with it, removes the folder. All of them are
killed: the next start removes the folder, recognised by its marker file and by nobody holding the marker's lock.
Linux only; prctl(2), flock(2).
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARKER = ".dwctl.unpacked"
"""It is unpacked first."""
YOUNG = 120.0
PR_SET_PDEATHSIG = 1


def settle() -> None:
    """To be called first thing in the frozen program. Does not return if the bootloader is already gone."""
    bootloader = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    folder = Path(sys._MEIPASS)  # type: ignore[attr-defined]
    if not _same_program(bootloader):
        _remove(folder)
        os._exit(1)
    _restore_environment()
    _hold(folder)
    _start_keeper(folder, bootloader)
    remove_leftovers(folder)


def _same_program(pid: int) -> bool:
    """Whether ``pid`` runs this executable; before that, a parent that died was replaced by init or a subreaper."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:
        # A bootloader that lives is this user's and can be looked at; init often cannot. Without /proc there is nothing to look at.
        return not os.path.exists("/proc/self/exe") and pid != 1 and os.getppid() == pid


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


# Its input ends when this process does. The bootloader, if it lives, then removes the folder itself and ends. The marker, which
# begins with a dot, goes last.
_KEEPER = """
trap '' INT TERM HUP QUIT
read -r _
while [ -e "/proc/$2/exe" ]; do sleep 0.02; done
rm -rf -- "$1"/*
rm -rf -- "$1"
"""


def _start_keeper(folder: Path, bootloader: int) -> None:
    """A shell, since a process forked from this one would keep a copy of its memory."""
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, False)
    actions = [
        (os.POSIX_SPAWN_DUP2, ours, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    # Without a shell the next start cleans up.
    with contextlib.suppress(OSError):
        os.posix_spawn("/bin/sh", ["sh", "-c", _KEEPER, "sh", str(folder), str(bootloader)], os.environ, file_actions=actions, setsid=True)
    os.close(ours)


def remove_leftovers(own: Path) -> list[Path]:
    """Removes folders that killed programs of ours left beside ``own``; returns them.

    Ours: made by the bootloader, owned by this user, with our marker. Left: older than `YOUNG` seconds (another program
    may be unpacking just now) and its marker's lock is free.
    """
    removed = []
    for folder in own.parent.glob("_MEI*"):
        if folder == own or folder.is_symlink() or not _is_left(folder):
            continue
        _remove(folder)
        removed.append(folder)
    return removed


def _remove(folder: Path) -> None:
    """Remove an unpacked folder, its marker last: a removal that is broken off is taken up by the next start."""
    entries: list[Path] = []
    with contextlib.suppress(OSError):  # another start may have removed it by now
        entries.extend(folder.iterdir())
    for entry in entries:
        if entry.name != MARKER:
            shutil.rmtree(entry, ignore_errors=True)
            with contextlib.suppress(OSError):
                entry.unlink()
    shutil.rmtree(folder, ignore_errors=True)


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
