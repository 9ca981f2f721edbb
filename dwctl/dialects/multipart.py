"""The model named in a multipart form (RFC 7578): audio transcriptions, image edits."""

from python_multipart.multipart import MultipartParser, parse_options_header

from dwctl.errors import bad_request


def field_of(body: bytes, content_type: str, name: str) -> str | None:
    """The text of the form field ``name``, or None. Raises GatewayError 400 for a form that cannot be read."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise bad_request("The multipart Content-Type names no boundary.")
    headers: dict[bytes, bytes] = {}
    header_name = bytearray()
    header_value = bytearray()
    value = bytearray()
    found: list[str] = []
    wanted = False

    def on_header_field(data: bytes, start: int, end: int) -> None:
        header_name.extend(data[start:end])

    def on_header_value(data: bytes, start: int, end: int) -> None:
        header_value.extend(data[start:end])

    def on_header_end() -> None:
        headers[bytes(header_name).lower()] = bytes(header_value)
        header_name.clear()
        header_value.clear()

    def on_headers_finished() -> None:
        nonlocal wanted
        _, parameters = parse_options_header(headers.get(b"content-disposition", b""))
        wanted = parameters.get(b"name") == name.encode() and b"filename" not in parameters

    def on_part_data(data: bytes, start: int, end: int) -> None:
        if wanted:
            value.extend(data[start:end])

    def on_part_end() -> None:
        if wanted:
            found.append(bytes(value).decode("utf-8", "replace"))
        value.clear()
        headers.clear()

    parser = MultipartParser(
        boundary,
        {
            "on_header_field": on_header_field,
            "on_header_value": on_header_value,
            "on_header_end": on_header_end,
            "on_headers_finished": on_headers_finished,
            "on_part_data": on_part_data,
            "on_part_end": on_part_end,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except Exception:
        raise bad_request("The multipart body could not be read.") from None
    return found[0] if found else None
