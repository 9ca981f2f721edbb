"""Finds the licences of what the one-file program holds besides Python packages, which carry their own: those of Python, and of the
libraries of the machine that builds it. For appliance.spec.
"""

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dwctl.web.licences import python_licence

DOCUMENTS = Path("/usr/share/doc")
COMMON = Path("/usr/share/common-licenses")


@dataclass
class Package:
    """``libraries`` by their names in the program; ``texts`` are the files of the licence, by the names that they get there."""

    name: str
    version: str
    licence: str
    purpose: str = ""
    libraries: list[str] = field(default_factory=list)
    texts: dict[str, Path] = field(default_factory=dict)


def collect(binaries: Iterable[tuple[str, str, str]], work: Path) -> list[tuple[str, str, str]]:
    """A list, and the texts that it names, as PyInstaller takes data: (name in the program, file, "DATA").

    The list is build/bundled.json, in the shape of vendor.json. ``binaries`` are PyInstaller's: (name in the program, file, kind);
    ``work`` is a folder for the list. Exits with a sentence if a licence is not found.
    """
    packages = packages_of(binaries)
    entries = []
    data = [("build/bundled.json", str(work / "bundled.json"), "DATA")]
    for package in packages:
        inside = {f"build/licences/{package.name}/{name}": path for name, path in package.texts.items()}
        data += [(name, str(path), "DATA") for name, path in inside.items()]
        entries.append(
            {
                "package": package.name,
                "version": package.version,
                "license": package.licence,
                "why": package.purpose or f"{', '.join(package.libraries)}, of the system that this was built on",
                "files": [{"to": name} for name in inside],
                "libraries": package.libraries,
            }
        )
    work.mkdir(parents=True, exist_ok=True)
    (work / "bundled.json").write_text(json.dumps({"packages": entries}, indent=2))
    return data


def packages_of(binaries: Iterable[tuple[str, str, str]]) -> list[Package]:
    """Python, and the system's packages that ``binaries`` come from. Exits with a sentence if a licence is not found."""
    licence = python_licence()
    if licence is None:
        raise SystemExit(f"{sys.base_prefix} has no licence of Python (LICENSE.txt), without which it must not be shipped")
    python = Package("Python", sys.version.split()[0], "PSF-2.0", "the language", texts={"LICENSE.txt": licence})
    found = {python.name: python}
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")]
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    for name, source, _ in sorted(binaries):
        file = Path(source).resolve()
        if any(file.is_relative_to(folder) for folder in installed):
            continue
        owner = _owner(Path(source))
        if file.is_relative_to(standard) or file.name.startswith("libpython"):
            package = python
        elif owner is not None:
            package = found.setdefault(owner[0], Package(*owner, "see its text"))
        else:
            raise SystemExit(
                f"The licence of {source} was not found, and without it the file must not be shipped: it is of no package of Debian or "
                "Ubuntu. Build there, with the system's own Python: PYTHON=/usr/bin/python3 make binary"
            )
        package.libraries.append(name)
        if owner is not None:
            package.texts |= _texts(owner[0])
    return list(found.values())


def _owner(library: Path) -> tuple[str, str] | None:
    """The Debian package of a file, and its version."""
    # Where /lib is a link to /usr/lib, packages name their files by either.
    paths = {str(path).removeprefix("/usr") for path in (library, library.resolve())}
    command = ["dpkg-query", "--search", *(start + path for start in ("", "/usr") for path in sorted(paths))]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return None
    owners = [line.rpartition(": ")[0].split(", ")[0] for line in found.splitlines() if not line.startswith("diversion by")]
    if not owners:
        return None
    show = ["dpkg-query", "--show", "--showformat=${Version}", owners[0]]
    return owners[0].partition(":")[0], subprocess.run(show, capture_output=True, text=True, check=True).stdout


def _texts(package: str) -> dict[str, Path]:
    """What a Debian package says of its licences, with the texts that it leaves to the common ones."""
    said = DOCUMENTS / package / "copyright"
    if not said.is_file():
        raise SystemExit(f"{said} is missing, without which {package} must not be shipped: apt-get install --reinstall {package}")
    named = re.findall(rf"{COMMON}/([A-Za-z]+(?:-\d+(?:\.\d+)*)?)", said.read_text("utf-8", "replace"))
    common = {(COMMON / name).resolve() for name in named}
    return {f"COPYRIGHT.{package}": said} | {f"LICENSE.{path.name}": path for path in sorted(common) if path.is_file()}
