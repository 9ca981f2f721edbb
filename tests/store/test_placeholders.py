"""``?`` placeholders on PostgreSQL."""

import pytest

from dwctl.store.postgresql import numbered


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1"),
        ("VALUES (?, ?), (?, ?)", "VALUES ($1, $2), ($3, $4)"),
        ("a = ? AND b = 'is it?' AND \"c?\" = ?", "a = $1 AND b = 'is it?' AND \"c?\" = $2"),
        ("a = 'it''s ?' OR b = ?", "a = 'it''s ?' OR b = $1"),
    ],
)
def test_numbered(sql: str, expected: str) -> None:
    assert numbered(sql) == expected
