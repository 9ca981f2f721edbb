"""The pages of docs/ that are made from the code are what the code says, and the others name what exists."""

import re
from pathlib import Path

import pytest

from build.raised_errors import Raised, raised
from build.reference import PAGES
from dwctl import config
from dwctl.cli import program
from tests.appliance import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_the_code_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run make docs"


def test_errors_are_found_through_the_functions_that_make_them() -> None:
    found = raised()
    by_code = {error.code: error for error in found}
    assert by_code["insufficient_balance"].status == 402
    assert by_code["api_key_expired"].status == 403
    assert by_code["upstream_first_byte_timeout"].status == 504
    assert any(error.message == "Group with ID {group_id} not found" and error.status == 404 for error in found)
    assert not [error for error in found if not re.fullmatch(r"[a-z_]+(\{[a-z_]+\})?", error.code)]
    assert Raised("insufficient_permissions", 403, "Insufficient permissions to {verb} {resource}", "accounts.policy") in found


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_variables_and_keys_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    code = "\n".join(re.findall(r"```.*?```|^    [^\n]*|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))
    for command in set(re.findall(r"\bdwctl ([a-z][a-z-]*)", code)):
        assert command in program.commands, f"{page.name} names the command {command}"
    variables = {key.variable for key in config.keys().values()} | {"DWCTL_CONFIG", "DWCTL_PASSPHRASE"}
    for variable in set(re.findall(r"\bDWCTL_[A-Z][A-Z_]*[A-Z]\b", text)):
        assert variable in variables, f"{page.name} names {variable}"
