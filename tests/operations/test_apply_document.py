"""Apply files: shape, exact numbers, and mistakes that name file, line and the nearest right word."""

from pathlib import Path

import pytest

from dwctl.errors import ConfigurationError
from dwctl.operations.apply.document import read


def _mistake(tmp_path: Path, text: str) -> str:
    path = tmp_path / "setup.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    return str(caught.value).replace(str(path), "FILE")


def test_money_is_kept_as_written_and_names_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "setup.yaml"
    path.write_text(
        """
models:
  - alias: 4
    endpoint: sim
    requests_per_second: 2
    metadata: {released_at: 2026-01-31, context_window: 128000}
    prices:
      - {input_per_million: 2.50, output_per_million: 123456789.123456, per_request: 0.10}
keys:
  - {user: a@b, name: 2026-01-01, secret: 00000000000000001, expires_at: 2027-01-31T00:00:00Z}
grants:
  - {user: a@b, amount: 0.10, source_id: 17}
"""
    )
    document, _ = read(path)
    model, key, grant = document.models[0], document.keys[0], document.grants[0]
    assert (model.alias, model.requests_per_second) == ("4", 2.0)
    assert model.metadata == {"released_at": "2026-01-31", "context_window": 128000}
    assert isinstance(model.prices, list)
    assert (model.prices[0].input_per_million, model.prices[0].output_per_million, model.prices[0].per_request) == (
        "2.50",
        "123456789.123456",
        "0.10",
    )
    assert (key.name, key.secret, key.expires_at) == ("2026-01-01", "00000000000000001", "2027-01-31T00:00:00Z")
    assert (grant.amount, grant.source_id) == ("0.10", "17")


def test_nothing_is_a_document_too(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert read(path)[0].endpoints == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("endpoint:\n  - name: x\n", "FILE:1: endpoint: unknown key; did you mean 'endpoints'?"),
        ("endpoints:\n  - name: x\n    ulr: http://h\n", "FILE:3: endpoints[0].ulr: unknown key; did you mean 'url'?"),
        (
            "models:\n  - alias: x\n    endpoint: e\n    prices:\n      - input_per_milion: 1\n",
            "FILE:5: models[0].prices[0].input_per_milion: unknown key; did you mean 'input_per_million'?",
        ),
        ("endpoints:\n  - name: x\n", "FILE:2: endpoints[0]: 'url' is missing"),
        ("groups:\n  - name: a\n    name: b\n", "FILE:3: groups[0].name: given twice"),
        (
            "models:\n  - alias: x\n    endpoint: e\n    capacity: many\n",
            "FILE:4: models[0].capacity: expected `int | null`, got `str`",
        ),
        ("- a\n- b\n", "FILE:1: expected `object`, got `array`"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert _mistake(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users:\n  - !!int canary", "FILE:2: users[0]: cannot be read; a text is put in quotes"),
        ("endpoints:\n  - api_key: canary\n    tls: !!bool x", "FILE:3: endpoints[0].tls: cannot be read; a text is put in quotes"),
        ("models: [{revision: " + "9" * 6_000 + "}]", "FILE:1: models[0].revision: cannot be read; a text is put in quotes"),
        ("endpoints:\n  - {api_key: canary, url: x, x: !vault canary}", "FILE:2: endpoints[0].x: has a tag that is not known here"),
        ("endpoints:\n  - {api_key: canary, url: x, x: !!binary §}", "FILE:2: endpoints[0].x: has a tag that is not known here"),
        ("a: " + "[" * 60 + "]" * 60, "FILE:1: nested too deeply"),
        ("a: " + "[" * 900 + "]" * 900, "FILE: nested too deeply"),
        (
            "a: &a0 [x]\n" + "".join(f"{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "FILE:1: more than 250000 keys and items, aliases included",
        ),
    ],
)
def test_what_yaml_cannot_make_a_value_of_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    said = _mistake(tmp_path, text)
    assert said.startswith(message)
    assert "canary" not in said


def test_a_day_that_there_is_not_is_text(tmp_path: Path) -> None:
    path = tmp_path / "setup.yaml"
    path.write_text("groups: [{name: a, description: 2024-13-45}]")
    assert read(path)[0].groups[0].description == "2024-13-45"


def test_a_word_that_resembles_none_gets_the_list(tmp_path: Path) -> None:
    assert "known here: name, description" in _mistake(tmp_path, "groups:\n  - name: a\n    zzz: 1\n")


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    assert _mistake(tmp_path, "groups:\n  - name: [\n").startswith("FILE:3: not YAML: ")
    assert "contains itself" in _mistake(tmp_path, "groups: &a\n  - *a\n")


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere.yaml: cannot be read: No such file"):
        read(tmp_path / "nowhere.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read(binary)


def test_plain_data_is_checked_the_same_way() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({"users": [{"email": "a@b", "role": []}]})
    assert str(caught.value) == "users[0].role: unknown key; did you mean 'roles'?"
