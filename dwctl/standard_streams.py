"""Standard input, output and error where whoever started the program closed them, or does not take what is printed."""

import os
import sys


def open_missing() -> None:
    """Open /dev/null for those that are closed: the next file or socket would take their numbers, and what is meant for people with it.

    To be called before anything is opened. (stdin, stdout and stderr of ``sys`` are None where they were closed at the start.)
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def say(text: str) -> None:
    """Print to the standard output, to the last byte; what its encoding does not have is spelled out (``\\xfc``).

    Raises OSError; what is printed after that goes nowhere.
    """
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        # In one piece: a reader that leaves after the first line has taken it all.
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        discard_output()
        raise


def discard_output() -> None:
    """Send what is printed from now on, and what could not be printed, to /dev/null: the interpreter would fail once more at its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.close(descriptor)
