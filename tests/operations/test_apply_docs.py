"""docs/apply.md against the code: its example applies, and its tables name every field."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from dwctl.config import Config
from dwctl.operations.apply import apply
from dwctl.operations.apply.document import Document, EndpointEntry, GrantEntry, GroupEntry, KeyEntry, ModelEntry, PriceEntry, UserEntry
from dwctl.sealing import Sealer, load_sealer
from dwctl.store import Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "apply.md"
SHAPES: tuple[type[msgspec.Struct], ...] = (EndpointEntry, GroupEntry, UserEntry, ModelEntry, PriceEntry, GrantEntry, KeyEntry)


@dataclass
class Target:
    store: Store
    sealer: Sealer
    config: Config = field(default_factory=Config)


def test_the_tables_name_every_field_and_say_which_are_required() -> None:
    text = PAGE.read_text()
    tables = [re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", part, re.MULTILINE) for part in text.split("| --- | --- | --- |\n")[1:]]
    assert len(tables) == len(SHAPES)
    for shape, rows in zip(SHAPES, tables, strict=True):
        fields = msgspec.structs.fields(shape)
        assert [name for name, _ in rows] == [field.name for field in fields], shape
        assert [name for name, default in rows if default == "required"] == [field.name for field in fields if field.required]
    headings = re.findall(r"^### `(\w+)`", text, re.MULTILINE)
    assert set(headings) == set(Document.__struct_fields__)


async def test_the_example_applies(sqlite_url: str, data_dir: Path, tmp_path: Path) -> None:
    target = Target(await Store.open(sqlite_url, data_dir), load_sealer(data_dir, None))
    example = tmp_path / "setup.yaml"
    example.write_text(PAGE.read_text().split("```yaml\n")[1].split("```")[0])
    environ = {"OPENAI_API_KEY": "sk-of-the-provider", "CI_API_KEY": "sk-ci-000000000000000"}
    try:
        report = await apply(target, example, environ=environ)
        assert report.created == {"endpoints": 1, "groups": 1, "users": 1, "models": 2, "grants": 1, "keys": 2}
        assert [key.name for key in report.new_keys] == ["laptop"]
        assert not (await apply(target, example, environ=environ)).changed
    finally:
        await target.store.close()
