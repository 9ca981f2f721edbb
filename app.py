"""The door: hands the command line to `dwctl.cli`.

Frozen into one file, the program is two processes: PyInstaller's bootloader, which unpacks a folder and waits, and this
one. Whoever kills the first must not leave the second, its port, its locks or the folder behind; `dwctl.frozen` sees to it.
"""

import sys

from dwctl import standard_streams


def main() -> None:
    standard_streams.open_missing()
    if getattr(sys, "frozen", False):
        from dwctl import frozen

        frozen.settle()
    from dwctl.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
