"""Holds the vendored files against build/vendor.json, and fetches them anew.

usage: python -m build.vendor            compare the files in the tree with their recorded SHA-256; exit 1 on a difference
       python -m build.vendor --fetch    also fetch each package by `npm pack`, compare it with its recorded integrity
                                         value, and write its files into the tree
"""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "build" / "vendor.json"


def differences(packages: list[dict[str, Any]]) -> list[str]:
    """One sentence for each file of the tree that is missing or not the recorded one."""
    found = []
    for package in packages:
        for file in package["files"]:
            path = ROOT / file["to"]
            if not path.is_file():
                found.append(f"{file['to']} is missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                found.append(f"{file['to']} is not the recorded file")
    return found


def fetch(package: dict[str, Any]) -> None:
    """Write a package's files into the tree. Raises SystemExit if the package is not the recorded one."""
    name = f"{package['package']}@{package['version']}"
    with tempfile.TemporaryDirectory() as directory:
        packed = subprocess.run(["npm", "pack", "--silent", name], cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
        archive = Path(directory) / packed.stdout.strip().splitlines()[-1]
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if integrity != package["integrity"]:
            raise SystemExit(f"{name}: the registry's package is not the recorded one ({integrity})")
        with tarfile.open(archive) as tar:
            for file in package["files"]:
                member = tar.extractfile(file["from"])
                if member is None:
                    raise SystemExit(f"{name}: no file {file['from']}")
                target = ROOT / file["to"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(member.read())


def main(arguments: list[str]) -> int:
    packages: list[dict[str, Any]] = json.loads(LIST.read_text())["packages"]
    if "--fetch" in arguments:
        for package in packages:
            fetch(package)
    found = differences(packages)
    for sentence in found:
        print(sentence, file=sys.stderr)
    if not found:
        print(f"{sum(len(package['files']) for package in packages)} vendored files are as recorded")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
