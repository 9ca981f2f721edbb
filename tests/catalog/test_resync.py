"""The difference between a provider's list and what is held, as examples and as properties of every input."""

from hypothesis import given
from hypothesis import strategies as st

from dwctl.catalog import HeldModel, plan_resync

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
HELD = st.lists(st.tuples(NAMES, st.sampled_from(["active", "inactive"]), st.booleans()), max_size=6).map(
    lambda rows: [HeldModel(str(index), *row) for index, row in enumerate(rows)]
)
FILTERS = st.none() | st.lists(NAMES, max_size=4)


def test_new_vanished_returned_and_filtered_models() -> None:
    held = [
        HeldModel("1", "stays", "active", False),
        HeldModel("2", "vanished", "active", False),
        HeldModel("3", "returned", "inactive", False),
        HeldModel("4", "unwanted", "active", False),
        HeldModel("5", "deleted", "active", True),
    ]
    plan = plan_resync(
        ["stays", "returned", "unwanted", "new", "deleted", "new", "other"], held, ["stays", "vanished", "returned", "new", "deleted"]
    )
    assert plan.create == ("new",)
    assert plan.reactivate == ("3",)
    assert plan.deactivate == ("2",)
    assert plan.delete == ("4",)
    assert (plan.fetched, plan.within_filter, plan.changes) == (6, 4, 4)


def test_an_empty_filter_lets_nothing_in() -> None:
    plan = plan_resync(["a", "b"], [HeldModel("1", "a", "active", False)], [])
    assert (plan.create, plan.delete, plan.within_filter) == ((), ("1",), 0)


@given(listed=st.lists(NAMES), held=HELD, model_filter=FILTERS)
def test_following_the_plan_leaves_nothing_to_do(listed: list[str], held: list[HeldModel], model_filter: list[str] | None) -> None:
    plan = plan_resync(listed, held, model_filter)
    after = []
    for model in held:
        status = "active" if model.id in plan.reactivate else "inactive" if model.id in plan.deactivate else model.status
        after.append(HeldModel(model.id, model.model_name, status, model.deleted or model.id in plan.delete))
    after += [HeldModel(f"new-{name}", name, "active", False) for name in plan.create]
    again = plan_resync(listed, after, model_filter)
    assert again.changes == 0
    live = {model.model_name for model in after if not model.deleted and model.status == "active"}
    wanted = {name for name in listed if model_filter is None or name in model_filter}
    assert live <= wanted
    assert wanted - live <= {model.model_name for model in held if model.deleted}
