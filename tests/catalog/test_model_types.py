import pytest

from dwctl.catalog import guess_model_type


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gpt-4o", "CHAT"),
        ("text-embedding-3-small", "EMBEDDINGS"),
        ("BAAI/bge-EMBED", "EMBEDDINGS"),
        ("Cohere/Rerank-v3", "RERANKER"),
        ("qwen3-embedding-reranker", "RERANKER"),
        ("", "CHAT"),
    ],
)
def test_the_name_tells_the_kind(name: str, kind: str) -> None:
    assert guess_model_type(name) == kind
