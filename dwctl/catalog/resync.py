"""The difference between what a provider lists and what is held of it: a pure function.

A listed model that is not held is created; one that vanished becomes inactive; one that is back becomes active; one
outside the endpoint's filter is deleted. What somebody deleted stays deleted, also when the provider still lists it.
"""

from collections.abc import Collection, Iterable

import msgspec


class HeldModel(msgspec.Struct, frozen=True):
    """A model of the endpoint as the store has it, deleted ones included."""

    id: str
    model_name: str
    status: str
    deleted: bool


class Resync(msgspec.Struct, frozen=True):
    """What to do. ``create`` holds provider names, the others ids of held models."""

    create: tuple[str, ...]
    reactivate: tuple[str, ...]
    deactivate: tuple[str, ...]
    delete: tuple[str, ...]
    fetched: int
    """Distinct names that the provider listed."""
    within_filter: int
    """Of these, those that the endpoint's filter lets in."""

    @property
    def changes(self) -> int:
        return len(self.create) + len(self.reactivate) + len(self.deactivate) + len(self.delete)


def plan_resync(listed: Iterable[str], held: Iterable[HeldModel], model_filter: Collection[str] | None) -> Resync:
    """Compare by the provider's names; ``model_filter`` None lets everything in. The order of ``listed`` is kept."""
    names = list(dict.fromkeys(listed))
    wanted = [name for name in names if model_filter is None or name in model_filter]
    present = frozenset(wanted)
    reactivate: list[str] = []
    deactivate: list[str] = []
    delete: list[str] = []
    known: set[str] = set()
    for model in held:
        known.add(model.model_name)
        if model.deleted:
            continue
        if model_filter is not None and model.model_name not in model_filter:
            delete.append(model.id)
        elif model.model_name not in present:
            if model.status == "active":
                deactivate.append(model.id)
        elif model.status != "active":
            reactivate.append(model.id)
    return Resync(
        create=tuple(name for name in wanted if name not in known),
        reactivate=tuple(reactivate),
        deactivate=tuple(deactivate),
        delete=tuple(delete),
        fetched=len(names),
        within_filter=len(wanted),
    )
