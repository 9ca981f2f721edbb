"""What kind of model a name suggests, for models that are imported without anyone saying so."""

from typing import Literal, get_args

ModelType = Literal["CHAT", "EMBEDDINGS", "RERANKER"]
MODEL_TYPES: tuple[ModelType, ...] = get_args(ModelType)


def guess_model_type(model_name: str) -> ModelType:
    """The likely type. A reranker is looked for first: several are called ``...-embedding-reranker``."""
    name = model_name.lower()
    if "rerank" in name:
        return "RERANKER"
    if "embed" in name:
        return "EMBEDDINGS"
    return "CHAT"
