"""What is shipped with this program, under which licences: Python packages by their own metadata, vendored files by the list that they
were fetched by. In the one-file program both lie inside it.
"""

import json
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_TEXTS = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """``texts`` are the files of its licence: (name, text)."""

    name: str
    version: str
    licence: str
    purpose: str
    texts: list[tuple[str, str]]


@cache
def components() -> dict[str, Component]:
    """Everything that is shipped, by name in the order of the alphabet."""
    found = [_package(distribution) for distribution in metadata.distributions() if _is_shipped(distribution.name)]
    vendored = json.loads((ROOT / "build" / "vendor.json").read_text("utf-8"))["packages"]
    found += [_vendored(package) for package in vendored]
    found.append(Component(name="Python", version=sys.version.split()[0], licence="PSF-2.0", purpose="the language", texts=_python()))
    return {component.name: component for component in sorted(found, key=lambda component: component.name.lower())}


def _is_shipped(name: str) -> bool:
    """In the one-file program all that there is; in a checkout what the lock of the server names, without development's tools."""
    return getattr(sys, "frozen", False) or _canonical(name) in _locked()


@cache
def _locked() -> frozenset[str]:
    return frozenset(map(_canonical, _LOCKED.findall((ROOT / "requirements.lock").read_text("utf-8"))))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _package(distribution: metadata.Distribution) -> Component:
    about = distribution.metadata
    texts = []
    for file in distribution.files or ():
        if _TEXTS.match(file.name) and ".dist-info" in str(file.parent) and (path := Path(str(distribution.locate_file(file)))).is_file():
            texts.append((file.name, path.read_text("utf-8", "replace")))
    return Component(
        name=distribution.name, version=distribution.version, licence=_licence(about), purpose=_field(about, "Summary"), texts=texts
    )


def _field(about: metadata.PackageMetadata, name: str) -> str:
    return next(iter(about.get_all(name) or ()), "")


def _licence(about: metadata.PackageMetadata) -> str:
    """The licence's name: the expression, else the classifier, else the first line of what is said."""
    if expression := _field(about, "License-Expression"):
        return expression
    named = [text.rpartition("::")[2].strip() for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    if named and named != ["OSI Approved"]:
        return ", ".join(named)
    said = _field(about, "License").strip().splitlines()
    return said[0][:60] if said else "see its text"


def _vendored(package: dict[str, object]) -> Component:
    files = package["files"]
    assert isinstance(files, list)
    paths = [ROOT / file["to"] for file in files if _TEXTS.search(Path(file["to"]).name)]
    return Component(
        name=str(package["package"]),
        version=str(package["version"]),
        licence=str(package["license"]),
        purpose=str(package["why"]),
        texts=[(path.name, path.read_text("utf-8")) for path in paths if path.is_file()],
    )


def _python() -> list[tuple[str, str]]:
    for place in (Path(sys.base_prefix) / "LICENSE.txt", Path(sys.base_prefix, "lib", f"python3.{sys.version_info.minor}", "LICENSE.txt")):
        if place.is_file():
            return [("LICENSE.txt", place.read_text("utf-8", "replace"))]
    return []
