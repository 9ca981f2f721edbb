"""What kind of model a name suggests, for models that are imported without anyone saying so."""

MODEL_TYPES = ("CHAT", "EMBEDDINGS", "RERANKER")


def guess_model_type(model_name: str) -> str:
    """One of ``MODEL_TYPES``. A reranker is looked for first: several are called ``...-embedding-reranker``."""
    name = model_name.lower()
    if "rerank" in name:
        return "RERANKER"
    if "embed" in name:
        return "EMBEDDINGS"
    return "CHAT"
