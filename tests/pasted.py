"""Code that a page offers, executed as somebody would who copies it into a file."""

import subprocess
import sys
from pathlib import Path

from tests.appliance import ROOT, environment

PACKAGES = ROOT / ".cache" / "javascript" / "node_modules"
"""What JavaScript imports, as ``make javascript`` has installed it."""

_PROGRAMS = {"bash": ("snippet.sh", "bash"), "python": ("snippet.py", sys.executable), "javascript": ("snippet.mjs", "node")}


def execute(language: str, code: str, directory: Path, **variables: str) -> str:
    """Run a piece of code in an empty directory, with these environment variables; what it printed. It must end well."""
    name, program = _PROGRAMS[language]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(code)
    if language == "javascript" and not (directory / "node_modules").exists():
        assert PACKAGES.exists(), "the packages that JavaScript needs are missing: make javascript"
        (directory / "node_modules").symlink_to(PACKAGES)
    done = subprocess.run([program, name], cwd=directory, capture_output=True, text=True, env=environment(**variables), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
