"""Requests read once and passed on unchanged, but for what must change."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwctl.dialects.names import DIALECTS, DialectName
from dwctl.dialects.raw_request import _DECIDING, FURTHER_MODELS, check_query, input_bound, input_text, outgoing, parse, prompts
from dwctl.errors import GatewayError

NOT_THE_CLIENTS = {"id", "completion_id", "completionid", "response_id", "responseid", "tools"} | _DECIDING | FURTHER_MODELS
"""Case-folded: what is left out, refused in odd values, or decided by."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(blacklist_categories=("Cs",))), json_values, max_size=5), st.booleans())
def test_only_model_and_usage_change(fields: dict[str, object], ask_usage: bool) -> None:
    fields = {name: value for name, value in fields.items() if name.casefold() not in NOT_THE_CLIENTS} | {"model": "alias"}
    sent = json.loads(outgoing(parse(json.dumps(fields).encode()), b'"theirs"', ask_usage=ask_usage))
    expected = fields | {"model": "theirs"}
    if ask_usage:
        expected["stream_options"] = {"include_usage": True}
    assert sent == expected


def test_spelling_is_kept() -> None:
    body = rb'{"messages":[{"content":"\u00e9 \/ 1.10", "x": 1.0e5}],"model":"a","temperature":0.700}'
    assert outgoing(parse(body), b'"m"', ask_usage=False) == body.replace(b'"a"', b'"m"')


SPACED = b'{ "zz" : {"b": [1.50, "x"] , "a":1},\t"model" :"a" ,\r\n"stream":true, "stream_options":{"include_usage": true} , "q" : null }\n'


def test_where_nothing_is_to_be_changed_the_body_is_the_clients_own() -> None:
    assert outgoing(parse(SPACED), b'"a"', ask_usage=True) == SPACED


@pytest.mark.parametrize(
    "more",
    [b'"model":"a"', b'"q":1', b'"id":1', b'"MAX_TOKENS":9'],
    ids=["a name that comes twice", "a value that is not the one decided by", "a client's id", "a name that hides another"],
)
def test_a_body_that_could_be_read_otherwise_is_not_passed_on(more: bytes) -> None:
    body = SPACED.replace(b'"q"', more + b', "q"')
    sent = outgoing(parse(body), b'"a"', ask_usage=True)
    assert sent != body
    fields = json.loads(sent, object_pairs_hook=list)
    assert len(dict(fields)) == len(fields) == 5


def test_usage_is_asked_for_beside_what_some_servers_take_for_the_same_word() -> None:
    body = b'{"model":"a","stream":true,"stream_options":{"include_usage":true,"Include_Usage":false}}'
    assert outgoing(parse(body), b'"a"', ask_usage=True).endswith(b'"stream_options":{"Include_Usage":false,"include_usage":true}}')


def test_other_stream_options_survive() -> None:
    body = b'{"model":"a","stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false}}'
    assert json.loads(outgoing(parse(body), b'"m"', ask_usage=True))["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }


@pytest.mark.parametrize(("spelled", "name"), [(rb'"deepseek-ai\/V3"', "deepseek-ai/V3"), (rb'"\u0061b\\c"', "ab\\c")])
def test_escapes_in_the_model(spelled: bytes, name: str) -> None:
    assert parse(b'{"model":' + spelled + b"}").model == name


def test_client_ids_are_dropped() -> None:
    body = b'{"model":"a","id":"x","completion_id":1,"completionId":1,"response_id":1,"responseId":1,"previous_response_id":"r"}'
    assert json.loads(outgoing(parse(body), b'"m"', ask_usage=False)) == {"model": "m", "previous_response_id": "r"}


def test_the_header_wins() -> None:
    assert parse(b'{"model":"a"}', "b").model == "b"


@pytest.mark.parametrize(
    "text", [r"a\ud83d", r"\uD83D", r"\ud83d\n", r"\\\ud83d", r"\ud83d\\ude00", r"\ude00", r"\ud83d\ud83d", r"\ud83d\u0041"]
)
def test_half_of_an_emoji_is_named_as_what_is_wrong(text: str) -> None:
    with pytest.raises(GatewayError, match="half of a surrogate pair"):
        parse(b'{"model":"a","messages":[{"content":"%b"}]}' % text.encode())


@pytest.mark.parametrize("text", [r"\ud83d\ude00", r"\\ud83d", "\U0001f600"])
def test_what_only_looks_like_half_of_an_emoji_is_not(text: str) -> None:
    assert parse(b'{"model":"a","user":"%b"}' % text.encode()).model == "a"
    with pytest.raises(GatewayError, match="must be valid JSON"):
        parse(b'{"model":"a","user":"%b"' % text.encode())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"x"', None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"{}", "model"),
        (b'{"model":5}', "model"),
        (b'{"model":""}', "model"),
        (rb'{"model":"\ud800"}', None),
        (rb'{"model":"a","messages":[{"content":"\udc00"}]}', None),
        (b'{"model":"\xff"}', "model"),
    ],
)
def test_what_cannot_be_read_is_400(body: bytes, param: str | None) -> None:
    with pytest.raises(GatewayError) as refusal:
        parse(body)
    assert refusal.value.status == 400
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("fields", "bound", "choices"),
    [
        (b'"max_tokens":5', 5, 1),
        (b'"max_tokens":5,"max_completion_tokens":7', 7, 1),
        (b'"max_tokens":9,"max_completion_tokens":7', 9, 1),
        (b'"n":3', None, 3),
        (b'"max_tokens":-1', None, 1),
        (b'"n":null,"best_of":0', None, 1),
        (b'"n":2,"best_of":3,"n_cmpl":4.0', None, 4),
        (b'"max_tokens":1e3', 1000, 1),
        (b'"max_tokens":true', None, 1),
        (b'"max_tokens":"12","n":"2"', 12, 2),
        (b'"best_of":4', None, 4),
        (b'"max_tokens":5,"n_predict":7', 7, 1),
        (b'"max_tokens":5,"max_completion_tokens":null', 5, 1),
        (b'"max_tokens":1099511627777,"n":99999999999999999999', 2**40, 2**40),
        (b'"max_tokens":1e30,"n":"99999999999999999999"', 2**40, 2**40),
    ],
)
def test_bounds_on_output(fields: bytes, bound: int | None, choices: int) -> None:
    request = parse(b'{"model":"a",' + fields + b"}")
    assert (request.max_output, request.choices) == (bound, choices)


@pytest.mark.parametrize(
    "odd", [b"-1", b"100.5", b'"1e5"', b'" 100000"', b'"+7"', b'"1_000"', b'"5.0"', b"true", b"[9]", b"1e999", b'"\xff"']
)
def test_a_bound_that_cannot_be_read_is_none_also_beside_one_that_can(odd: bytes) -> None:
    for fields in (
        b'"max_completion_tokens":%b',
        b'"max_completion_tokens":%b,"max_tokens":5',
        b'"max_completion_tokens":5,"max_tokens":%b',
    ):
        request = parse(b'{"model":"a",' + fields % odd + b"}")
        assert (request.max_output, request.is_bounded) == (None, False)


@pytest.mark.parametrize("odd", [b"-1", b"1.5", b'"3 "', b'"+7"', b'"1_000"', b'"5.0"', b'"many"', b'""', b"true", b"[9]", b"{}", b"1e999"])
@pytest.mark.parametrize("name", ["n", "best_of", "n_cmpl"])
def test_a_number_of_answers_that_cannot_be_read_is_refused(name: str, odd: bytes) -> None:
    with pytest.raises(GatewayError, match=f"'{name}': expected a whole number") as refusal:
        parse(b'{"model":"a","%b":%b}' % (name.encode(), odd))
    assert (refusal.value.status, refusal.value.param) == (400, name)


@pytest.mark.parametrize("odd", [b"1", b"0", b"1.0", b'"true"', b'"false"', b'"yes"', b'"1"', b'""', b"[]", b"{}", b'"\xff"'])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_that_only_some_servers_would_send_is_refused(dialect: DialectName, odd: bytes) -> None:
    with pytest.raises(GatewayError, match="'stream': expected true or false") as refusal:
        parse(b'{"model":"a","stream":%b}' % odd, None, dialect)
    assert (refusal.value.status, refusal.value.param) == (400, "stream")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_null_says_nothing_of_a_stream(dialect: DialectName) -> None:
    assert parse(b'{"model":"a","stream": null}', None, dialect).stream == parse(b'{"model":"a"}', None, dialect).stream
    assert [parse(b'{"model":"a","stream":%b }' % said, None, dialect).stream for said in (b"true", b"false")] == [True, False]


@pytest.mark.parametrize("name", [*sorted(FURTHER_MODELS), "Models", "FALLBACKS", "fallback_model\u017f", "fallbac\u212as"])
@pytest.mark.parametrize("value", [["best"], "best", {}, [[]]])
def test_a_further_model_is_refused(name: str, value: object) -> None:
    for override in (None, "b"):
        with pytest.raises(GatewayError, match="by the one model that 'model' names") as refusal:
            parse(json.dumps({"model": "a", name: value}).encode(), override)
        assert (refusal.value.status, refusal.value.param) == (400, name)


def test_no_further_model_is_one_model() -> None:
    body = b'{"model":"a","models":null,"fallbacks":[],"fallback":["x"],"provider":{"allow_fallbacks":false}}'
    assert outgoing(parse(body), b'"a"', ask_usage=False) == body


@pytest.mark.parametrize("fallbacks", [b'"default"', b"[]", b'[{"model":"best"}]'])
def test_what_anthropics_clients_fall_back_on_is_left_out(fallbacks: bytes) -> None:
    body = b'{"model":"a","fallbacks":%b,"max_tokens":5}' % fallbacks
    assert outgoing(parse(body, None, "anthropic"), b'"a"', ask_usage=False) == b'{"model":"a","max_tokens":5}'
    with pytest.raises(GatewayError):
        parse(body.replace(b"fallbacks", b"Fallbacks").replace(b"[]", b"{}"), None, "anthropic")


@pytest.mark.parametrize("model", ['"best"', '"a"', "null", '"best","model":null'])
def test_a_tool_is_no_further_model(model: str) -> None:
    tools = '[1,{"type":"function","function":{"name":"model"}},{"type":"advisor","mo\\u0064el":' + model + "}]"
    for dialect in DIALECTS:
        with pytest.raises(GatewayError, match="by the one model") as refusal:
            parse(b'{"model":"a","tools":%b}' % tools.encode(), None, dialect)
        assert (refusal.value.status, refusal.value.param) == (400, "tools[2].model")


@pytest.mark.parametrize("tools", [b"null", b"5", b"[1]", b"[]", b'[{"parameters":{"model":"x"},"name":"model"}]'])
def test_tools_without_a_model_pass(tools: bytes) -> None:
    body = b'{"model":"a","tools":%b}' % tools
    assert outgoing(parse(body), b'"a"', ask_usage=False) == body


@pytest.mark.parametrize(
    "query", ["model=best", "x=1&MODEL=best", "x=1;mode%6C=best", "models[]=best", "+stream=1", "n", "fallbacks=best", "%c5%bftream=1"]
)
def test_a_query_that_would_decide_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"its query has '(model|models|stream|n|fallbacks)', which belongs in the body"):
        check_query(query)


def test_any_other_query_passes() -> None:
    check_query("beta=true&api-version=2025-04-01&mode=l&model_version=5&model-version=5&x=model=best&&")


@pytest.mark.parametrize(
    ("fields", "bounded"),
    [
        (b'"max_tokens":1', True),
        (b'"max_tokens":1,"max_completion_tokens":7', True),
        (b'"max_tokens":0', False),
        (b'"max_tokens":0,"max_completion_tokens":7', False),
        (b'"max_tokens":7,"max_completion_tokens":0', False),
        (b'"max_completion_tokens":7', False),
        (b'"n_predict":7,"max_tokens":null', False),
        (b'"n_predict":7,"max_tokens":9', True),
        (b'"seed":7', False),
    ],
)
def test_what_binds_every_server(fields: bytes, bounded: bool) -> None:
    assert parse(b'{"model":"a",' + fields + b"}").is_bounded == bounded


def test_prompts_are_counted_that_cannot_be_decoded() -> None:
    """A provider that is less strict may answer each of them."""
    assert prompts(parse(b'{"model":"a","prompt":["\xff","b","c"]}')) == 3
    assert prompts(parse(b'{"model":"a","prompt":[]}')) == 1


def test_documents_of_text_are_counted_as_text() -> None:
    plain = {"type": "document", "title": "Log", "source": {"type": "text", "media_type": "text/plain", "data": "many words"}}
    blocks = {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": "more"}, {"type": "image", "source": {}}]},
    }
    scanned = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [plain, blocks, scanned]}]}
    text, media = input_text(parse(json.dumps(body).encode(), None, "anthropic"))
    assert media == 2
    assert "many words" in text
    assert "more" in text
    assert "JVBERi0x" not in text


@pytest.mark.parametrize("limit", [-2, -1, 0])
def test_what_is_no_bound_to_ollama_is_none(limit: int) -> None:
    body = json.dumps({"model": "a", "options": {"num_predict": limit, "seed": 1}}).encode()
    request = parse(body, None, "ollama")
    assert request.max_output is None
    sent = json.loads(outgoing(request, b'"m"', ask_usage=False, max_tokens=50))
    assert sent == {"model": "m", "options": {"seed": 1, "num_predict": 50}}


def test_a_written_bound_is_the_only_one() -> None:
    body = b'{"model":"a","max_tokens":null,"max_completion_tokens":-1,"n_predict":9}'
    assert outgoing(parse(body), b'"m"', ask_usage=False, max_tokens=50) == b'{"model":"m","max_tokens":50}'


def test_a_written_bound_has_the_name_that_the_model_knows() -> None:
    chat, text = (parse(body) for body in (b'{"model":"a","messages":[]}', b'{"model":"a","prompt":""}'))
    for model, name in ((b'"gpt-5"', "max_completion_tokens"), (b'"mistral-small"', "max_tokens")):
        assert name in json.loads(outgoing(chat, model, ask_usage=False, max_tokens=50))
        assert "max_tokens" in json.loads(outgoing(text, model, ask_usage=False, max_tokens=50))


@pytest.mark.parametrize("name", ["Model", "MODEL", "Max_Tokens", "\u017ftream", "OPTIONS"])
def test_no_other_spelling_of_a_name_overrules_what_was_decided(name: str) -> None:
    """Servers written in Go, as Ollama is, match the names of fields in any case, and the last one counts."""
    body = json.dumps({"model": "a", name: "dearer"}).encode()
    assert outgoing(parse(body), b'"m"', ask_usage=False) == b'{"model":"m"}'


def test_size_bounds_text_but_not_images() -> None:
    assert input_bound(b'{"model":"a"}') == 13
    assert input_bound(b'{"messages":[{"content":[{"type":"image_url"}]}]}') is None
    assert input_bound(rb'{"messages":[{"content":[{"type":"im\u0061ge_url"}]}]}') is None
    assert input_bound(rb'{"messages":[{"content":"caf\u00e9"}]}') is not None


def test_all_text_is_counted() -> None:
    request = parse(
        json.dumps(
            {
                "model": "a",
                "messages": [
                    {"role": "system", "content": "one"},
                    {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "image_url", "image_url": {"url": "http://x"}}]},
                ],
                "tools": [{"type": "function", "function": {"name": "three"}}],
            }
        ).encode()
    )
    text, media = input_text(request)
    assert media == 1
    assert all(word in text for word in ("one", "two", "three"))
    assert "http://x" not in text


@pytest.mark.parametrize("kind", ["file", "image_url", "document", "video", "input_audio"])
@pytest.mark.parametrize("name", ["content", "text", "title", "context", "reasoning_content"])
def test_what_calls_itself_a_medium_is_read_all_the_same(kind: str, name: str) -> None:
    for said in ("hidden words", [{"type": "text", "text": "hidden words"}], [{"type": "file", "data": [{"text": "hidden words"}]}]):
        text, media = input_text(parse(json.dumps({"model": "a", "messages": [{"role": "user", "type": kind, name: said}]}).encode()))
        assert "hidden words" in text
        assert media >= 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "BYTES", "detail": "high"}},
        {"type": "input_image", "image_url": "BYTES"},
        {"type": "input_audio", "input_audio": {"data": "BYTES", "format": "wav"}},
        {"type": "file", "file": {"file_data": "BYTES", "filename": "a.pdf"}},
        {"type": "input_file", "file_data": "BYTES"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "BYTES"}},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "url", "url": "BYTES"}},
        {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "BYTES"},
        {"type": "image", "image": "data:image/png;base64,BYTES"},
        {"type": "video", "video": ["data:image/png;base64,BYTES", "data:image/png;base64,BYTES"]},
        {"type": "audio_url", "audio_url": "data:audio/wav;base64,BYTES"},
    ],
)
def test_a_medium_is_no_text(part: dict[str, object]) -> None:
    text, media = input_text(parse(json.dumps({"model": "a", "input": [{"role": "user", "content": [part]}]}).encode()))
    assert media == 1
    assert "BYTES" not in text


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "BYTES"},
        {"type": "text_result", "result": "BYTES"},
        {"type": "video", "video": ["data:", "BYTES"]},
    ],
)
def test_words_in_the_place_of_a_medium_are_text(part: dict[str, object]) -> None:
    assert "BYTES" in input_text(parse(json.dumps({"model": "a", "input": [{"role": "user", "content": [part]}]}).encode()))[0]


@pytest.mark.parametrize("name", ["suffix", "template", "prediction", "context", "guided_grammar", "Prompt", "what_nobody_knows"])
def test_text_in_any_field_is_counted(name: str) -> None:
    said = {"type": "content", "content": "hidden words"} if name == "prediction" else "hidden words"
    assert "hidden words" in input_text(parse(json.dumps({"model": "a", name: said}).encode()))[0]


def test_settings_are_no_text() -> None:
    settings = {"user": "u", "metadata": {"a": "b"}, "temperature": 0.5, "seed": 7, "stream": False, "top_p": None, "stop": ["x"]}
    settings |= {"options": {"num_ctx": 9}, "logit_bias": {"5": 1}, "tool_choice": "auto", "reasoning": {"effort": "high"}}
    assert input_text(parse(json.dumps({"model": "a", "prompt": "hi", **settings}).encode())) == ("hi", 0)


def test_what_cannot_be_decoded_hides_nothing() -> None:
    assert "hidden words" in input_text(parse(b'{"model":"a","messages":[{"content":"hidden words","odd":"\xff"}]}'))[0]


def test_what_is_not_utf_8_is_the_providers_to_refuse() -> None:
    body = b'{"model":"a","stream":true,"stream_options":{"x":"\xff"},"messages":[{"content":"\xff"}]}'
    request = parse(body)
    assert (request.wants_usage, input_text(request)) == (False, ('[{"content":"\ufffd"}]', 0))
