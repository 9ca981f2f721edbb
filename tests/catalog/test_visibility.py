from dwctl.catalog import Rights, hidden_fields


def test_without_rights_everything_sensitive_is_hidden() -> None:
    hidden = hidden_fields(Rights())
    assert {
        "requests_per_second",
        "burst_size",
        "capacity",
        "batch_capacity",
        "throughput",
        "created_by",
        "groups",
        "metrics",
        "endpoint",
    } <= hidden
    assert not hidden & {"id", "alias", "model_name", "tariffs", "description"}


def test_each_right_uncovers_its_fields_only() -> None:
    nothing = hidden_fields(Rights())
    uncovered = [nothing - hidden_fields(Rights(**{name: True})) for name in ("rate_limits", "users", "models", "groups", "analytics")]
    assert all(uncovered)
    assert sum(map(len, uncovered)) == len(nothing)
    assert not hidden_fields(Rights(rate_limits=True, users=True, models=True, groups=True, analytics=True))
