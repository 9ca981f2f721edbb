"""What a path asks for."""

import pytest

from dwctl.dialects.surfaces import check_path, surface_of


@pytest.mark.parametrize("path", ["/messages/", "/v1/messages", "/%6dessages", "/Messages"])
def test_another_spelling_is_no_cheaper(path: str) -> None:
    assert surface_of(path).operation == "chat"
    assert not surface_of(path).exact


@pytest.mark.parametrize("path", ["/messages/count_tokens/", "/v1/messages/count_tokens", "/messages%3F/messages/count_tokens"])
def test_nothing_but_the_path_itself_counts_tokens_for_nothing(path: str) -> None:
    assert surface_of("/messages/count_tokens").operation == "count_tokens"
    assert surface_of(path).operation == "other"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/engines/best/chat/completions",
            "/openai/deployments/best/chat/completions",
            "/x/messages",
            "/messages%3F/messages/count_tokens",
        ),
        *("/engines/best/rerank", "/E%6Egines/org/best/rerank/", "/openai/deployments/best/images/generations"),
        *("/models/best:generateContent", "/v1beta/models/best:generateContent", "/model/best/invoke"),
    ],
)
def test_no_path_names_another_model(path: str) -> None:
    with pytest.raises(ValueError, match=r"nothing may stand before|names a model"):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/chat/completions/", "/v1/chat/completions", "/v1/Messages/count_tokens", "/fim/completions", "/v1/fim/completions"),
        *("/images/generations", "/audio/speech", "/v1/rerank", "/responses/r/cancel", "/models", "/multimodalembeddings"),
    ],
)
def test_other_paths_pass(path: str) -> None:
    check_path(path)
