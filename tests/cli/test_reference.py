"""The pages of docs/ that are made from the code are what the code says, and the others name what exists."""

import re
from pathlib import Path
from typing import get_args

import pytest

from build.raised_errors import Raised, raised
from build.reference import PAGES
from dwctl import config
from dwctl.cli import program
from dwctl.gateway.dispatch import provider_fault
from dwctl.outbound import OutboundError
from dwctl.outbound.connection import Kind
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
    assert by_code["invalid_form"].status == 422
    assert by_code["reset_link_expired"].message == "This link has been used, or is too old. Ask for a new one."


def test_what_the_outbound_client_reports_is_among_the_errors() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    for kind in get_args(Kind):
        error = provider_fault(OutboundError(kind, "of no interest"))
        assert re.search(rf"^\| {error.status} \| `{error.code}` \| .*{re.escape(error.message)}", page, re.MULTILINE), kind


def test_an_error_whose_code_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    module = tmp_path / "room.py"
    module.write_text("def passed_on(said):\n    raise GatewayError(502, 'api_error', said.code or 'upstream_error', said.message)\n")
    assert raised(tmp_path) == [Raised("upstream_error", 502, "", "room")]
    module.write_text(
        "def fault(kind):\n    status, code, message = FAULTS[kind]\n    return GatewayError(status, 'api_error', code, message)\n"
    )
    with pytest.raises(ValueError, match="room, line 3: write the error's code out"):
        raised(tmp_path)


def test_errors_of_administration_are_not_among_those_of_inference() -> None:
    inference, administration = (ROOT / "docs" / "errors.md").read_text().split("## Administration")
    for message in ("A transaction with this source_id already exists.", "source_id must have 1 to 255 characters."):
        assert message in administration
        assert message not in inference
    assert "recording_unavailable" in inference


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_heading_stands_once_on_a_page_and_links_to_headings_find_theirs(page: Path) -> None:
    def headings(text: str) -> list[str]:
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        return [re.sub(r"\W+", "-", words.lower()).strip("-") for words in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)]

    text = page.read_text()
    assert len(headings(text)) == len(set(headings(text)))
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        assert heading in headings((page.parent / target).read_text() if target else text), f"{page.name} points to {target}#{heading}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_variables_and_keys_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    code = "\n".join(re.findall(r"```.*?```|^    [^\n]*|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))
    for command in set(re.findall(r"\bdwctl ([a-z][a-z-]*)", code)):
        assert command in program.commands, f"{page.name} names the command {command}"
    variables = {key.variable for key in config.keys().values()} | {"DWCTL_CONFIG", "DWCTL_PASSPHRASE"}
    for variable in set(re.findall(r"\bDWCTL_[A-Z][A-Z_]*[A-Z]\b", text)):
        assert variable in variables, f"{page.name} names {variable}"
