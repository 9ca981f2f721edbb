"""Where entries of the journal go that cannot be recorded: one file each, for a person to look at, and an alarm."""

import contextlib
from pathlib import Path

import msgspec

from dwctl.ledger.journal import Position
from dwctl.ledger.metrics import QUARANTINED
from dwctl.ledger.reading import Damage
from dwctl.ledger.records import Record
from dwctl.telemetry.alarms import alarm


def set_aside_record(directory: Path, record: Record, place: Position) -> None:
    """Keep a record that the database refuses, as JSON."""
    QUARANTINED.labels("record").inc()
    alarm("recorder", "quarantined", "critical", request_id=record.id, segment=place.segment, offset=place.offset)
    content = msgspec.json.format(msgspec.json.encode(msgspec.structs.asdict(record)), indent=2)
    _save(directory, _record_name(place), content)


def take_back_record(directory: Path, place: Position) -> None:
    """Forget a record that the database took after all."""
    with contextlib.suppress(OSError):
        (directory / _record_name(place)).unlink(missing_ok=True)


def _record_name(place: Position) -> str:
    return f"{place.segment:016d}-{place.offset:010d}.json"


def set_aside(directory: Path, damage: Damage) -> None:
    """Keep bytes that are no record, as they are."""
    QUARANTINED.labels("damage").inc()
    alarm("journal", "damaged", "critical", segment=damage.segment, offset=damage.offset, bytes=len(damage.content))
    _save(directory, f"{damage.segment:016d}-{damage.offset:010d}.damaged", damage.content)


def is_empty(directory: Path) -> bool:
    """Whether nothing is set aside (or nothing can be seen of it)."""
    try:
        return not any(directory.iterdir())
    except OSError:
        return True


def count(directory: Path) -> int:
    """How many entries are set aside, as far as can be seen."""
    try:
        return sum(1 for _ in directory.iterdir())
    except OSError:
        return 0


def _save(directory: Path, name: str, content: bytes) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    except OSError as error:
        alarm("quarantine", "failed", "critical", name=name, error=str(error))
