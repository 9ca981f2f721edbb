"""What a path asks for."""

import pytest

from dwctl.dialects.surfaces import surface_of


@pytest.mark.parametrize("path", ["/messages/", "/v1/messages", "/%6dessages", "/Messages"])
def test_another_spelling_is_no_cheaper(path: str) -> None:
    assert surface_of(path).operation == "chat"
    assert not surface_of(path).exact


@pytest.mark.parametrize("path", ["/messages/count_tokens/", "/v1/messages/count_tokens", "/messages%3F/messages/count_tokens"])
def test_nothing_but_the_path_itself_counts_tokens_for_nothing(path: str) -> None:
    assert surface_of("/messages/count_tokens").operation == "count_tokens"
    assert surface_of(path).operation == "other"
