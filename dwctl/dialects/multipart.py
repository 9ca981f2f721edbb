"""Multipart forms (RFC 7578): audio transcriptions, image edits. Which model one names, and another in its place.

Every server has its own way with what is not quite a form. Who could name one model to dwctl and another to the provider would choose
what it may use, and what it pays. So what cannot be read in one way alone is refused, though somebody may be able to read it.
"""

import re
from typing import NamedTuple

from dwctl.dialects.raw_request import TOKENS_PER_MEDIA_PART, check_form_field
from dwctl.errors import GatewayError, bad_request

_CHARSET = r'(?:[ \t]*;[ \t]*charset="?(?:utf-?8|us-ascii|iso-8859-1)"?)?'
"""Some servers read the names of fields by it; in these ASCII is ASCII."""
_CONTENT_TYPE = re.compile(
    rf'multipart/form-data{_CHARSET}[ \t]*;[ \t]*boundary=("?)([\w+./:=?-]{{1,70}})\1{_CHARSET}[ \t]*;?[ \t]*', re.ASCII | re.IGNORECASE
)
_HEADER = rb"\r\n([!#$%&'*+\-.^_`|~0-9A-Za-z]++):([^\x00-\x08\x0a-\x1f\x7f]*+)"
_HEAD = re.compile(rb"(?:" + _HEADER + rb")+\r\n\r\n")
_EACH_HEADER = re.compile(_HEADER)
_PARAMETER = rb"""[ \t]*;[ \t]*(?:(name)=(?:([\w.\[\]-]+)|"([\w.\[\]-]+)")|(filename\*?)=(?:([^"\\;,\s]+)|"((?:[^"\\]|\\.)*)"))"""
_DISPOSITION = re.compile(rb"form-data(?:" + _PARAMETER + rb")+", re.IGNORECASE)
_EACH_PARAMETER = re.compile(_PARAMETER, re.IGNORECASE)
_ANY_NAME = re.compile(rb"name[\d*]*[ \t]*=", re.IGNORECASE)
"""Where a server may find a name that does not mind what is quoted."""
_LONGEST_HEAD = 16 * 1024
"""Bytes; what is longer takes memory to read."""
_MOST_PARTS = 1000
"""Many servers take no more, and some of those leave out the rest."""


class _Part(NamedTuple):
    """``filename`` is None where there is none; ``head`` is where its headers begin, with the end of the line before."""

    name: bytes
    filename: bytes | None
    head: int
    start: int
    end: int


class Form(NamedTuple):
    """A form that was read."""

    body: bytes
    delimiter: bytes
    parts: list[_Part]

    def text(self, name: str) -> str | None:
        """The value of a field. Raises GatewayError 400 if some server may find another one."""
        part = self._part(name)
        return self.body[part.start : part.end].decode("utf-8", "replace") if part is not None else None

    def with_text(self, name: str, value: str) -> bytes:
        """The body with a field of this value, which may not have been there, and every other part as it was. Raises GatewayError 400."""
        part, body = self._part(name), self.body
        written = f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        if self.delimiter in written:
            raise _unreadable("Choose another boundary.")
        if part is not None:
            return body[: part.head] + written + body[part.end :]
        return self.delimiter + written + b"\r\n" + body[body.find(self.delimiter) :]

    def input_bound(self) -> int:
        """Bound on the input tokens: the bytes of the fields, and what each file can cost."""
        return sum(TOKENS_PER_MEDIA_PART if part.filename else part.end - part.start for part in self.parts)

    def _part(self, name: str) -> _Part | None:
        # To some servers case is nothing, and others take a member or an element for the whole.
        alike = re.compile(rb"\W*%b(?:[^\w-].*)?" % name.encode(), re.IGNORECASE)
        found = [part for part in self.parts if alike.fullmatch(part.name)]
        if found and (len(found) > 1 or found[0].filename is not None or found[0].name != name.encode()):
            raise bad_request(
                f"The form has the field '{name}' more than once, as a file, or in another spelling. Send it once, as text.", param=name
            )
        return found[0] if found else None


def parse(body: bytes, content_type: str) -> Form:
    """Read a form. Raises GatewayError 400."""
    declared = _CONTENT_TYPE.fullmatch(content_type)
    if declared is None:
        raise bad_request(
            "Send the form with Content-Type: multipart/form-data; boundary=..., of at most 70 letters, digits, or any of _+./:=?-;"
            " it must be in UTF-8.",
            param="content-type",
        )
    delimiter = b"--" + declared[2].encode()
    at = body.find(delimiter)
    if at < 0 or body[:at].strip(b"\r\n"):
        raise _unreadable("It does not begin with its boundary.")
    parts: list[_Part] = []
    while not body.startswith(b"--", begin := at + len(delimiter)):
        at = body.find(delimiter, begin)
        # Where a boundary does not have a line of its own, servers do not agree whether it is one.
        if at < 0 or body[at - 2 : at] != b"\r\n" or (head := _HEAD.match(body, begin, min(at - 2, begin + _LONGEST_HEAD))) is None:
            raise _unreadable("A part lacks its headers or its end, or the boundary stands in it. Lines end with CRLF.")
        parts.append(_Part(*_name_and_filename(head[0]), begin, head.end(), at - 2))
        check_form_field(parts[-1].name.decode())
        if len(parts) > _MOST_PARTS:
            raise _unreadable(f"It has more than {_MOST_PARTS} parts.")
    if body[begin + 2 :].strip():
        raise _unreadable("Something follows its end.")
    return Form(body, delimiter, parts)


def _name_and_filename(head: bytes) -> tuple[bytes, bytes | None]:
    headers = {name.lower(): value.strip() for name, value in _EACH_HEADER.findall(head)}
    if len(headers) != head.count(b"\r\n") - 2:
        raise _unreadable("A part has a header twice.")
    if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise _unreadable("A part must not have parts.")
    disposition = headers.get(b"content-disposition", b"")
    found: dict[bytes, bytes] = {}
    if _DISPOSITION.fullmatch(disposition):
        for parameter in _EACH_PARAMETER.finditer(disposition):
            name, value = (group for group in parameter.groups() if group is not None)
            found[name.lower()] = value
    if b"name" not in found or len(found) != len(_ANY_NAME.findall(disposition)):
        raise _unreadable(
            "Each part has a Content-Disposition: form-data; name=..., of letters, digits, or any of _.-[], and a filename if it is a"
            " file, without 'name=' in it."
        )
    return found[b"name"], found.get(b"filename") or found.get(b"filename*", found.get(b"filename"))


def _unreadable(what: str) -> GatewayError:
    return bad_request(f"The multipart body could not be read. {what}")
