"""Forms: what one says, what may be replaced in it, and that nobody can read another thing into it."""

import aiohttp
import httpx
import pytest

from dwctl.dialects.multipart import parse
from dwctl.dialects.raw_request import TOKENS_PER_MEDIA_PART
from dwctl.errors import GatewayError

TYPE = "multipart/form-data; boundary=B"
DISPOSITION = b"Content-Disposition: form-data; "
END = b"--B--\r\n"


def part(headers: bytes, value: bytes = b"dear") -> bytes:
    return b"--B\r\n" + headers + b"\r\n\r\n" + value + b"\r\n"


def field(name: bytes, value: bytes = b"cheap") -> bytes:
    return part(DISPOSITION + b'name="' + name + b'"', value)


MODEL = field(b"model")
FILE = part(DISPOSITION + b'name="file"; filename="model"\r\nContent-Type: audio/wav', b"RIFF\r\n-\r\n--\r\n\x00\xff")


def test_another_model_in_its_place() -> None:
    form = parse(FILE + MODEL + END, TYPE)
    assert (form.text("model"), form.text("n")) == ("cheap", None)
    assert form.with_text("model", "dear") == FILE + field(b"model", b"dear") + END


@pytest.mark.parametrize("name", [b"models", b"Fallbacks", b"models[]", b"fallback_models[0]"])
def test_a_further_model_is_refused(name: bytes) -> None:
    with pytest.raises(GatewayError, match="by the one model that 'model' names") as refusal:
        parse(MODEL + field(name, b"dear") + END, TYPE)
    assert refusal.value.param == name.decode()


def test_nothing_is_left_of_how_the_model_was_sent() -> None:
    """A length that is no longer true, or an encoding."""
    model = part(b"content-disposition: form-data; name=model\r\nContent-Length: 5\r\nContent-Transfer-Encoding: base64", b"cheap")
    assert parse(FILE + model + END, TYPE).with_text("model", "dear") == FILE + field(b"model", b"dear") + END


@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_a_model_that_was_not_there(before: bytes) -> None:
    form = parse(before + FILE + END, TYPE)
    assert form.text("model") is None
    assert form.with_text("model", "dear") == field(b"model", b"dear") + FILE + END
    assert parse(END, TYPE).with_text("model", "dear") == field(b"model", b"dear") + END


def test_the_bound_of_a_form_is_that_of_its_text_and_its_files() -> None:
    unnamed = part(DISPOSITION + b'name="text"; filename=""', bytes(70))
    body = field(b"model", b"sim") + field(b"prompt", b"x" * 5000) + FILE + FILE + unnamed + END
    assert parse(body, TYPE).input_bound() == 3 + 5000 + 2 * TOKENS_PER_MEDIA_PART + 70


@pytest.mark.parametrize(
    "headers",
    [
        b"name=model",
        b"name=model; filename=a.wav; filename*=utf-8''a.wav",
        b'NAME="model"; Filename="a;b=\\"c\\".wav"',
        b'filename="C:\\a\\b.wav"; name="file"',
        b"name=\"file\"; filename*=UTF-8''caf%C3%A9.wav",
        b'name="image[]"; filename="caf\xc3\xa9 %22.png"\r\nContent-Type: image/png\r\nContent-Length: 5',
        b'name="a.b-c_d"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit',
    ],
)
def test_heads_that_clients_write(headers: bytes) -> None:
    assert len(parse(part(DISPOSITION + headers) + END, TYPE).parts) == 1


@pytest.mark.parametrize(
    "content_type",
    [
        'Multipart/Form-Data; Boundary="B"; charset=UTF-8',
        'multipart/form-data; charset="utf-8"; boundary=B',
        "multipart/form-data ;boundary=B;",
    ],
)
def test_content_types_that_clients_write(content_type: str) -> None:
    assert parse(MODEL + END, content_type).text("model") == "cheap"


async def test_what_libraries_send_is_read() -> None:
    text, file = {"model": "cheap"}, ('caf\u00e9 "b".wav', b"RIFF", "audio/wav")
    request = httpx.Request("POST", "http://x", data=text, files={"file": file})
    assert parse(request.read(), request.headers["content-type"]).text("model") == "cheap"
    data = aiohttp.FormData(text)
    data.add_field("file", file[1], filename=file[0], content_type=file[2])
    payload = data()
    assert parse(await payload.as_bytes(), payload.headers["content-type"]).text("model") == "cheap"


@pytest.mark.parametrize(
    "other",
    [
        field(b"model"),
        field(b"model", b""),
        field(b"Model"),
        field(b"model[]"),
        field(b"[model]"),
        field(b"model[0]"),
        field(b"model.name"),
        part(DISPOSITION + b'name="model"; filename=""'),
        part(DISPOSITION + b'name="model"; filename="x"'),
        part(DISPOSITION + b"name=\"model\"; filename*=utf-8''x"),
        part(DISPOSITION + b"name=MODEL"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_field_that_decides_is_there_once(other: bytes, first: bool) -> None:
    """Of two some servers take the first and others the last; and whether it is one they do not agree."""
    form = parse((other + MODEL if first else MODEL + other) + END, TYPE)
    for read in (lambda: form.text("model"), lambda: form.with_text("model", "x")):
        with pytest.raises(GatewayError, match="'model' more than once") as refusal:
            read()
        assert (refusal.value.status, refusal.value.param) == (400, "model")


@pytest.mark.parametrize("name", [b"Model", b"model[]", b'model"; filename="'])
def test_a_field_that_decides_alone_in_another_spelling(name: bytes) -> None:
    with pytest.raises(GatewayError, match="in another spelling"):
        parse(field(name) + END, TYPE).text("model")


@pytest.mark.parametrize("name", [b"model_name", b"models_of", b"model-id", b"submodel", b"user[model]", b"x.model"])
def test_other_fields_are_others(name: bytes) -> None:
    assert parse(field(name) + MODEL + END, TYPE).text("model") == "cheap"


@pytest.mark.parametrize(
    "headers",
    [
        DISPOSITION + b'name="model"\r\n' + DISPOSITION + b'name="x"',
        DISPOSITION + b'name="x"\r\ncontent-disposition: form-data; name="model"',
        DISPOSITION + b'name="x"; name="model"',
        DISPOSITION + b"name*=utf-8''model",
        DISPOSITION + b"name=\"x\"; name*=utf-8''model",
        DISPOSITION + b'name*0="mod"; name*1="el"',
        DISPOSITION + b'name="mod\\el"',
        DISPOSITION + b'name="%6dodel"',
        DISPOSITION + b'name="=?utf-8?B?bW9kZWw=?="',
        DISPOSITION + b'name="+AG0-odel"',
        DISPOSITION + b'name=" model"',
        DISPOSITION + b'name="model\t"',
        DISPOSITION + b'name="/model"',
        DISPOSITION + b'name="model\0x"',
        DISPOSITION + b"name=\"x\" (y); name='model'",
        DISPOSITION + b'name = "model"',
        DISPOSITION + b'name="x" name="model"',
        DISPOSITION + b'name="x"; filename="; name=model; "',
        DISPOSITION + b'name="x"; filename="\\"; name=model; y=\\""',
        DISPOSITION + b'x-name="model"; name="x"',
        DISPOSITION + b'name="x"y',
        DISPOSITION + b'name="x"; y=z',
        DISPOSITION + b'name="x";\r\n name="model"',
        DISPOSITION + b'name="x"\nContent-Disposition: form-data; name="model"',
        DISPOSITION + b'name="x"\rContent-Disposition: form-data; name="model"',
        DISPOSITION + b'name=""',
        b'Content-Disposition: attachment; name="model"',
        b'Content-Disposition : form-data; name="model"',
        b"Content-Disposition: form-data",
        b"Content-Type: text/plain",
        b"",
        DISPOSITION + b'name="x"\r\nContent-Type: Multipart/mixed; boundary=C',
    ],
)
def test_heads_that_can_be_read_otherwise(headers: bytes) -> None:
    refused(part(headers) + MODEL + END)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        MODEL,
        MODEL + b"--B\r\n",
        MODEL + b"--B",
        MODEL + b"--B-\r\n",
        field(b"x", b"\n--B\n" + DISPOSITION + b'name="model"\n\ndear\n') + MODEL + END,
        field(b"x", b"\r\n--Bx\r\n" + DISPOSITION + b'name="model"\r\n\r\ndear') + MODEL + END,
        field(b"x", b"in --B the middle") + MODEL + END,
        field(b"x", b"some\n" + field(b"y")[:-2]) + MODEL + END,
        MODEL.replace(b"--B", b"--B ") + END,
        MODEL.replace(b"\r\n", b"\n") + END.replace(b"\r\n", b"\n"),
        MODEL + END + field(b"model", b"dear") + END,
        MODEL + END + b"more",
        b"before\r\n" + MODEL + END,
        b"--" + MODEL + END,
        field(b"x", b"") * 1001 + MODEL + END,
        part(DISPOSITION + b"name=x" + b"".join(b"\r\nx%d: y" % number for number in range(5000))) + MODEL + END,
    ],
)
def test_bodies_that_can_be_read_otherwise(body: bytes) -> None:
    refused(body)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=A; boundary=B",
        "multipart/form-data; boundary*=utf-8''B",
        "multipart/form-data; boundary*0=B",
        'multipart/form-data; boundary="B "',
        'multipart/form-data; boundary="\\B"',
        "multipart/form-data; boundary=B, multipart/form-data; boundary=A",
        'multipart/form-data; x="boundary=A"; boundary=B',
        "multipart/form-data; boundary=B; charset=utf-7",
        "multipart/form-data; charset=punycode; boundary=B",
        "multipart/form-data; boundary=" + "B" * 71,
        'multipart/form-data; boundary="\udcff"',
        "multipart/form-data; boundary=caf\u00e9",
    ],
)
def test_content_types_that_can_be_read_otherwise(content_type: str) -> None:
    refused(MODEL + END, content_type, "content-type")


def test_a_model_is_not_cut_by_the_boundary() -> None:
    with pytest.raises(GatewayError, match="another boundary"):
        parse(MODEL + END, TYPE).with_text("model", "cheap--Better")


def refused(body: bytes, content_type: str = TYPE, param: str | None = None) -> None:
    with pytest.raises(GatewayError) as refusal:
        parse(body, content_type)
    assert (refusal.value.status, refusal.value.code, refusal.value.param) == (400, "bad_request", param)
