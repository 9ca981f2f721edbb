"""What is shipped with this program, under which licences: Python packages by their own metadata, vendored files by the list that they
were fetched by. In the one-file program both lie inside it, with a list of the libraries that it was made with.
"""

import json
import re
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import msgspec

from dwctl import __version__

ROOT = Path(__file__).resolve().parents[2]
_FROZEN = getattr(sys, "frozen", False)
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_TEXTS = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|AUTHORS)", re.IGNORECASE)
_SECTION = re.compile(r"^#+ *Licen[cs]e *\n(.+?)(?=^#|\Z)", re.MULTILINE | re.DOTALL | re.IGNORECASE)


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
    found.append(_component("dwctl", __version__, "MIT", "this program", [ROOT / "LICENSE"]))
    found += _listed("vendor.json")
    if _FROZEN:
        found += _listed("bundled.json")
    else:
        found.append(_component("Python", sys.version.split()[0], "PSF-2.0", "the language", [python_licence()]))
    return {component.name: component for component in sorted(found, key=lambda component: component.name.lower())}


def _is_shipped(name: str) -> bool:
    """In the one-file program all that there is; in a checkout what the lock of the server names, without development's tools."""
    return _FROZEN or _canonical(name) in _locked()


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
    if not texts and (said := _SECTION.search(str(about.json.get("description", "")))):
        texts.append(("METADATA", said[1].strip()))
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


def _listed(name: str) -> list[Component]:
    """The packages of one of build's lists."""
    found = []
    for package in json.loads((ROOT / "build" / name).read_text("utf-8"))["packages"]:
        paths = [ROOT / file["to"] for file in package["files"] if _TEXTS.search(Path(file["to"]).name)]
        found.append(_component(package["package"], package["version"], package["license"], package["why"], paths))
    return found


def _component(name: str, version: str, licence: str, purpose: str, paths: Iterable[Path | None]) -> Component:
    texts = [(path.name, path.read_text("utf-8", "replace")) for path in paths if path is not None and path.is_file()]
    return Component(name=name, version=version, licence=licence, purpose=purpose, texts=texts)


def python_licence() -> Path | None:
    """The file of the licence of the Python that runs this, if it has one."""
    places = (Path(sys.base_prefix), Path(sysconfig.get_path("stdlib")))
    return next((place / "LICENSE.txt" for place in places if (place / "LICENSE.txt").is_file()), None)
