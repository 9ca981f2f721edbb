"""Builds dist/dwctl with PyInstaller, unless what it would be built from has not changed.

usage: python -m build.binary [--force]
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "dist" / "dwctl"
STAMP = ROOT / "dist" / "dwctl.built-from"


def sources() -> list[Path]:
    """Every file that goes into the binary, or decides how it is made."""
    single = ["app.py", "appliance.spec", "requirements-dev.lock", "requirements.lock", "build/binary.py", "build/dwctl.unpacked"]
    single += ["build/vendor.json", "build/licences.py", "LICENSE"]
    folders = [path for name in ("dwctl", "templates", "static", "docs") for path in (ROOT / name).rglob("*")]
    return sorted([*(ROOT / name for name in single), *(path for path in folders if path.is_file() and "__pycache__" not in path.parts)])


def fingerprint() -> str:
    """SHA-256 over the sources, their names and the interpreter."""
    digest = hashlib.sha256(f"{sys.version} {Path(sys.base_prefix)}".encode())
    for path in sources():
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build() -> None:
    """Runs PyInstaller; its own output is shown only if it fails. Exits with its code then."""
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "WARN"]
    command += ["--workpath", ".cache/pyinstaller", "--distpath", "dist", "appliance.spec"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise SystemExit(done.returncode)


def main() -> None:
    wanted = fingerprint()
    if "--force" not in sys.argv and PROGRAM.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        print(f"{PROGRAM.relative_to(ROOT)} is up to date")
        return
    STAMP.unlink(missing_ok=True)
    build()
    STAMP.write_text(wanted)
    print(f"built {PROGRAM.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
