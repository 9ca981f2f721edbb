"""The model named in a multipart form (RFC 7578): audio transcriptions, image edits."""

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dwctl.dialects.raw_request import TOKENS_PER_MEDIA_PART
from dwctl.errors import bad_request


class FormField(NamedTuple):
    """A text field, and where its value stands in the body."""

    value: str
    start: int
    end: int


class _Part(NamedTuple):
    name: bytes | None
    is_file: bool
    start: int
    end: int


def find_field(body: bytes, content_type: str, name: str) -> FormField | None:
    """The form field ``name`` that is not a file. Raises GatewayError 400 for a form that cannot be read, or has two such fields."""
    found = [part for part in _parts(body, content_type) if part.name == name.encode() and not part.is_file]
    if len(found) > 1:  # some servers take the first, others the last
        raise bad_request(f"The form has the field '{name}' more than once.", param=name)
    return next((FormField(body[part.start : part.end].decode("utf-8", "replace"), part.start, part.end) for part in found), None)


def input_bound(body: bytes, content_type: str) -> int:
    """Bound on the input tokens of a form that `find_field` could read: the bytes of its fields, and what each file can cost."""
    return sum(TOKENS_PER_MEDIA_PART if part.is_file else part.end - part.start for part in _parts(body, content_type))


def _parts(body: bytes, content_type: str) -> list[_Part]:
    """The parts that are not empty."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise bad_request("The multipart Content-Type names no boundary.", param="content-type")
    header_name = bytearray()
    header_value = bytearray()
    disposition = b""
    start: int | None = None
    end = 0
    found: list[_Part] = []

    def on_part_begin() -> None:
        nonlocal disposition, start
        disposition, start = b"", None

    def on_header_end() -> None:
        nonlocal disposition
        if bytes(header_name).lower() == b"content-disposition":
            disposition = bytes(header_value)
        header_name.clear()
        header_value.clear()

    def on_part_data(_: bytes, first: int, last: int) -> None:
        # The body is written in one piece, so that the parser's offsets are the body's.
        nonlocal start, end
        start, end = (first if start is None else start), last

    def on_part_end() -> None:
        if start is not None:
            _, parameters = parse_options_header(disposition)
            found.append(_Part(parameters.get(b"name"), b"filename" in parameters, start, end))

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": on_part_begin,
            "on_header_field": lambda data, first, last: header_name.extend(data[first:last]),
            "on_header_value": lambda data, first, last: header_value.extend(data[first:last]),
            "on_header_end": on_header_end,
            "on_part_data": on_part_data,
            "on_part_end": on_part_end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise bad_request("The multipart body could not be read.") from None
    return found


def with_value(body: bytes, field: FormField, value: str) -> bytes:
    """The form with another value in one field, and every other byte as it was."""
    return body[: field.start] + value.encode() + body[field.end :]
