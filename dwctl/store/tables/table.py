"""What every table is: a model whose source nobody reads."""

from typing import Any

from tortoise.models import Model, ModelMeta


class _Uncommented(ModelMeta):
    """Tortoise parses the source of each model for comments that describe columns. We write none, and a start would pay for it."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> ModelMeta:
        return super().__new__(cls, name, bases, {"_no_comments": True, **attributes})


class Table(Model, metaclass=_Uncommented):
    class Meta:
        abstract = True
