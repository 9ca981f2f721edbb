"""Records fit their rows, whatever callers and providers put into them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.usage import Usage
from dwctl.ledger import Attempt, Charge, Record
from dwctl.ledger.cleaning import _OWN_TEXT, _TEXT, MAX_CHARGE, MAX_TAG, MAX_TAGS, MAX_TOKENS, clean, clean_begin, clean_deeply, reduced
from dwctl.ledger.framing import frame
from dwctl.ledger.journal import END_RESERVE
from dwctl.ledger.rows import _REQUEST_COLUMNS, row
from dwctl.store.tables import RequestRow
from tests.ledger.making import make_begin, make_record

NASTY = "\0", "\ud800", "ok\udfff\0", "é" * 5_000, "😀" * 5_000, "x" * 5_000
encode = msgspec.msgpack.encode


def test_the_limits_are_those_of_the_columns() -> None:
    columns = RequestRow._meta.fields_map
    for name, limit in (*_TEXT, *_OWN_TEXT):
        length = getattr(columns[name], "max_length", None)
        assert length == limit or (name == "raw_usage" and length is None), name


def test_every_column_is_filled_from_the_field_of_its_name() -> None:
    record = make_record(status=418, first_byte_us=7, response_bytes=9, trace_id="trace", tags=("a", "b=c"))
    values = dict(zip(_REQUEST_COLUMNS, row(record), strict=True))
    assert set(values) == set(RequestRow._meta.fields_map) - {"seq"}
    for name in Record.__struct_fields__:
        if name in values and name not in ("attempts", "explanation", "tags"):
            assert values[name] == getattr(record, name), name
    assert record.usage is not None
    assert record.charge is not None
    assert all(values[name] == getattr(record.usage, name) for name in Usage.__struct_fields__)
    assert values["charge_nano"] == record.charge.amount_nano
    assert (values["tariff_id"], values["input_pico"], values["output_pico"]) == msgspec.structs.astuple(record.charge)[1:]
    assert msgspec.json.decode(values["attempts"], type=list[Attempt]) == record.attempts
    assert msgspec.json.decode(values["explanation"]) == record.explanation
    assert msgspec.json.decode(values["tags"], type=tuple[str, ...]) == record.tags


@pytest.mark.parametrize(("name", "limit"), _TEXT)
@pytest.mark.parametrize("text", NASTY)
def test_text_becomes_storable(name: str, limit: int, text: str) -> None:
    record = make_record(**{name: text})
    clean(record)
    cleaned = getattr(record, name)
    assert 0 < len(cleaned) <= limit
    assert "\0" not in cleaned
    cleaned.encode()


def test_sound_text_is_left_alone() -> None:
    record = make_record(alias="grüße-😀", user_agent="x" * 255, error_message="é" * 512)
    before = encode(record)
    assert clean(record)
    assert encode(record) == before


def test_lists_are_bounded_and_cleaned() -> None:
    attempt = Attempt("p\0", "m" * 999, 1, 2, None, "\ud800")
    record = make_record(explanation=["a\0b", "x" * 9_999] * 100, attempts=[attempt] * 100)
    clean(record)
    encoded = encode(record)
    assert len(encoded) < 20_000
    assert all("\0" not in sentence for sentence in record.explanation)
    assert record.attempts[0].error is not None
    record.attempts[0].error.encode()


@pytest.mark.parametrize("text", NASTY)
def test_tags_become_storable(text: str) -> None:
    record = make_record(tags=("sound", text) * MAX_TAGS)
    clean(record)
    assert len(record.tags) == MAX_TAGS
    assert record.tags[0] == "sound"
    assert all(0 < len(tag) <= MAX_TAG and "\0" not in tag for tag in record.tags)
    encode(record)


@pytest.mark.parametrize("tokens", [-1, 2**63, 2**70])
def test_implausible_usage_is_cut_and_said(tokens: int) -> None:
    record = make_record(usage=Usage(uncached_input=tokens, output=3, reasoning=2, estimated=True))
    assert not clean(record)
    assert record.usage == Usage(uncached_input=0 if tokens < 0 else MAX_TOKENS, output=3, reasoning=2, estimated=True)
    encode(record)


@pytest.mark.parametrize(("amount", "kept"), [(-5, 0), (2**80, MAX_CHARGE), (MAX_CHARGE, MAX_CHARGE), (0, 0)])
def test_implausible_charges_are_cut_and_said(amount: int, kept: int) -> None:
    record = make_record(charge=Charge(amount, "t", 1, 2))
    assert clean(record) == (amount == kept)
    assert record.charge == Charge(kept, "t", 1, 2)


def test_what_does_not_encode_is_cleaned_deeply() -> None:
    record = make_record(purpose="\ud800", duration_us=2**90, attempts=[Attempt("p", "m", 2**80, -(2**80), 200, None)])
    clean(record)
    with pytest.raises((UnicodeEncodeError, OverflowError)):
        encode(record)
    clean_deeply(record)
    encode(record)


@pytest.mark.parametrize("text", NASTY)
def test_a_begin_becomes_small_and_encodes(text: str) -> None:
    assert len(encode(clean_begin(make_begin(path=text, alias=text, endpoint_name=text)))) < 5_000


big = st.integers(0, 2**62)
wide = st.text(st.characters(exclude_categories=["Cs"]), max_size=600) | st.just("😀" * 600)


@given(
    st.fixed_dictionaries(dict.fromkeys(("alias", "endpoint_name", "error_code", "path", "raw_usage", "user_agent"), wide)),
    big,
    st.booleans(),
)
def test_a_reduced_record_fits_the_room_that_its_begin_reserved(texts: dict[str, str], number: int, stream: bool) -> None:
    counts: dict[str, Any] = dict.fromkeys(("hold_nano", "first_byte_us", "duration_us", "request_bytes", "response_bytes"), number)
    record = make_record(
        **texts, **counts, stream=stream, outcome="interrupted", access_source="unauthenticated", operation="o" * 32, origin="o" * 16,
        purpose="p" * 16, service_tier="s" * 16, charge=Charge(MAX_CHARGE, "0" * 36, number, number), node="0" * 36,
        usage=Usage(*[MAX_TOKENS] * 6), tags=("t" * MAX_TAG,) * MAX_TAGS, explanation=["x" * 500] * 30,
    )  # fmt: skip
    clean(record)
    small = reduced(record)
    assert len(frame(encode(small))) <= END_RESERVE
    assert (small.id, small.account_id, small.key_id, small.charge, small.usage) == (
        record.id, record.account_id, record.key_id, record.charge, record.usage,
    )  # fmt: skip
