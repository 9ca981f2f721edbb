"""Programs that are not ours, run with an environment of their own."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.appliance import ROOT

PYTHON = ROOT / ".cache" / "clients" / "bin" / "python"
"""The interpreter that knows the Python libraries, as ``make clients`` has installed it."""
_NOBODY = "http://127.0.0.1:9"


def run(command: Sequence[str | Path], directory: Path, ends: tuple[int, ...] = (0,), **variables: str) -> str:
    """What a program printed, which has to end with one of these exit codes.

    Its home is ``directory``. It reaches this machine alone: whatever else it asks for goes to a proxy that is not there.
    """
    alone = {"HTTP_PROXY": _NOBODY, "HTTPS_PROXY": _NOBODY, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(directory)} | alone | variables,
        timeout=100,
    )
    assert done.returncode in ends, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
