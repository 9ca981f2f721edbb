"""``/playground``: talk to one model or two, compare texts by their embeddings, take the code along.

The address holds a setup; the conversation is in the form itself, so that the server keeps none. With scripts the answer to the form is
a stream of events that fills the page while the models write; without, it is the whole page.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from sanic.response import HTTPResponse

from dwctl.doorway import Needs, Route
from dwctl.operations.calls import Answer, Run, embed, models_for, session_principal, similarity, stop_run
from dwctl.operations.snippets import QUESTION, Kind, Snippet, snippets
from dwctl.web.addresses import api_base, origin
from dwctl.web.context import Context
from dwctl.web.formats import MOST_WORK, markdown_work
from dwctl.web.forms import FormError, decode_fields, wrong
from dwctl.web.pages import Feed, Go, Nav, Update, View, go, page, view

ROUTES: list[Route] = []
POLICY = Needs("Models", "read_own")
_SETUP = ("model", "model2", "system", "temperature", "top_p", "max_tokens", "prompt")
_MOST_TURNS = 200


class Turn(msgspec.Struct):
    """What was asked, and what each model answered; None where one did not."""

    prompt: str
    answers: Annotated[list[str | None], msgspec.Meta(max_length=2)]


class SetupQuery(msgspec.Struct, kw_only=True):
    """A setup as the address holds it. What does not fit is said when it is sent. ``code``: show the code for it."""

    model: str | None = None
    model2: str | None = None
    system: str | None = None
    temperature: str | None = None
    top_p: str | None = None
    max_tokens: str | None = None
    prompt: str | None = None
    code: bool = False


class Setup(msgspec.Struct, kw_only=True):
    """The form, which may still have nothing to ask."""

    model: str
    model2: str | None = None
    system: str | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    prompt: str | None = None
    history: str | None = None


class Message(Setup, kw_only=True):
    """The form with something to ask."""

    prompt: str


class StopForm(msgspec.Struct, kw_only=True):
    run: str


class EmbeddingsQuery(msgspec.Struct, kw_only=True):
    model: str | None = None
    texts: str | None = None


class EmbeddingsForm(msgspec.Struct, kw_only=True):
    model: str
    texts: str


@page(
    ROUTES,
    "GET",
    "/playground",
    policy=POLICY,
    query=SetupQuery,
    summary="Playground",
    nav=Nav("Build", "Playground", "message-square", 20, key="t"),
)
async def chat_page(context: Context) -> View:
    """A setup, and room to talk."""
    query: SetupQuery | None = context.query
    setup = msgspec.structs.asdict(query) if query is not None else {}
    turns = [] if context.form is None else _turns_again(context.form.value("history"))
    shown = None
    if query is not None and query.code and query.model:
        try:
            shown = _code(context, decode_fields({name: [setup[name]] for name in _SETUP if setup[name] is not None}, Setup))
        except FormError:
            pass  # what does not fit is said when it is sent
    return await _chat(context, setup, turns, code=shown)


async def _chat(context: Context, setup: dict[str, Any], turns: Sequence[Turn], **more: Any) -> View:
    principal = session_principal(context.services, context.actor)
    models = [model.alias for model in await models_for(context.services, principal) if model.kind == "chat"]
    values = {"code": None, "ends": None} | more
    shown = dict.fromkeys(_SETUP) | setup
    return view(
        "playground/chat.html",
        models=[(alias, alias) for alias in models],
        setup=shown,
        turns=turns,
        plain=_plain(turns),
        keep=_kept(turns),
        **values,
    )


def _plain(turns: Sequence[Turn]) -> int:
    """How many of the oldest turns are shown as they were written, because the later ones are enough to render."""
    work = 0
    for number in range(len(turns), 0, -1):
        work += sum(map(markdown_work, turns[number - 1].answers))
        if work > MOST_WORK:
            return number
    return 0


@page(ROUTES, "POST", "/playground", policy=POLICY, form=Message, again=chat_page, summary="Ask a model, or two")
async def ask(context: Context) -> View | Feed:
    """Ask; the answers come while they are written."""
    form: Message = context.body
    turns = _turns(form.history)
    models = _models(form)
    bodies = [_body(form, turns, number) | {"stream_options": {"include_usage": True}} for number in range(len(models))]
    run = Run(context.services, context.actor, context.peer.ip, bodies)
    if "hx-request" in context.request.headers:
        return Feed("playground/stream.html", lambda _: _stream(run, form, turns))
    ends: dict[int, Answer] = {}
    async for together in run.follow():
        ends |= {number: piece for number, piece in together if isinstance(piece, Answer)}
    answered = [*turns, _turn(form, ends)]
    setup = msgspec.structs.asdict(form) | {"prompt": None}
    return await _chat(context, setup, answered, ends=[ends[number] for number in range(len(models))])


async def _stream(run: Run, form: Message, turns: list[Turn]) -> AsyncIterator[Update]:
    models = _models(form)
    common = {"run": run.id, "models": models}
    yield Update("0", common | {"begins": form.prompt, "texts": {}, "thoughts": {}, "ends": {}, "keep": None})
    ends: dict[int, Answer] = {}
    count = 0
    async for together in run.follow():
        texts: dict[int, str] = {}
        thoughts: dict[int, str] = {}
        ended: dict[int, Answer] = {}
        for number, piece in together:
            if isinstance(piece, Answer):
                ended[number] = piece
            else:
                into = thoughts if piece.thought else texts
                into[number] = into.get(number, "") + piece.text
        ends |= ended
        keep = _kept([*turns, _turn(form, ends)]) if len(ends) == len(models) else None
        count += 1
        yield Update(str(count), common | {"begins": None, "texts": texts, "thoughts": thoughts, "ends": ended, "keep": keep})


@page(ROUTES, "POST", "/playground/stop", policy=POLICY, form=StopForm, again=chat_page, summary="Stop answering")
async def stop(context: Context) -> HTTPResponse:
    """Stop one's own run: the provider is let go, and the answer so far stays."""
    stop_run(context.services, context.actor, context.body.run)
    return HTTPResponse(b"", 204, {"cache-control": "no-store"})


@page(ROUTES, "POST", "/playground/code", policy=POLICY, form=Setup, again=chat_page, summary="The code of a setup")
async def show_code(context: Context) -> View | Go:
    """The setup as code, and as an address that opens it again."""
    form: Setup = context.body
    if "hx-request" not in context.request.headers:
        return go(f"{_address(form)}&code=1")
    return await _chat(context, {}, [], code=_code(context, form))


@page(ROUTES, "GET", "/playground/embeddings", policy=POLICY, query=EmbeddingsQuery, summary="Compare texts")
async def embeddings_page(context: Context) -> View:
    """Texts to compare."""
    query = context.query or EmbeddingsQuery()
    return await _embeddings(context, query.model, query.texts)


@page(ROUTES, "POST", "/playground/embeddings", policy=POLICY, form=EmbeddingsForm, again=embeddings_page, summary="Compare texts")
async def compare(context: Context) -> View:
    """How alike the texts are to the model."""
    form: EmbeddingsForm = context.body
    texts = [line.strip() for line in form.texts.splitlines() if line.strip()]
    answer = await embed(context.services, context.actor, context.peer.ip, form.model, texts)
    vectors = answer.vectors
    if answer.error is None and len(vectors) != len(texts):
        answer.error = "The provider did not send a vector for each text."
    rows = [[similarity(one, other) for other in vectors] for one in vectors] if answer.error is None else []
    code = snippets(api_base(context), form.model, "embeddings", request={"input": texts})
    return await _embeddings(context, form.model, form.texts, answer=answer, compared=texts, rows=rows, code=code)


async def _embeddings(context: Context, model: str | None, texts: str | None, **more: Any) -> View:
    principal = session_principal(context.services, context.actor)
    models = [each.alias for each in await models_for(context.services, principal) if each.kind == "embeddings"]
    values = {"answer": None, "compared": [], "rows": [], "code": []} | more
    return view("playground/embeddings.html", models=[(alias, alias) for alias in models], model=model, texts=texts, **values)


def _models(form: Setup) -> list[str]:
    return [form.model, form.model2] if form.model2 else [form.model]


def _body(form: Setup, turns: Sequence[Turn], number: int) -> dict[str, Any]:
    """The request of one of the models: it sees what it answered itself."""
    messages = [{"role": "system", "content": form.system}] if form.system else []
    for turn in turns:
        answer = turn.answers[number] if number < len(turn.answers) else None
        if answer is not None:
            messages += [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": answer}]
    messages.append({"role": "user", "content": form.prompt or QUESTION})
    body: dict[str, Any] = {"model": _models(form)[number], "messages": messages, "stream": True}
    for name in ("temperature", "top_p", "max_tokens"):
        if (value := getattr(form, name)) is not None:
            body[name] = value
    return body


def _turn(form: Message, ends: Mapping[int, Answer]) -> Turn:
    answers = (ends.get(number) for number in range(len(_models(form))))
    return Turn(form.prompt, [answer.text if answer is not None and answer.text else None for answer in answers])


def _turns(history: str | None) -> list[Turn]:
    """The conversation so far, as the form holds it. Raises FormError."""
    if not history:
        return []
    try:
        turns = msgspec.json.decode(history, type=list[Turn])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise wrong("history", "The conversation so far cannot be read. Begin a new one.") from None
    if len(turns) > _MOST_TURNS:
        raise wrong("history", "This conversation has become too long. Begin a new one.")
    return turns


def _turns_again(history: str) -> list[Turn]:
    """As ``_turns``, of a form that is shown again and says itself what is wrong with it."""
    try:
        return _turns(history)
    except FormError:
        return []


def _kept(turns: Sequence[Turn]) -> str:
    return msgspec.json.encode(list(turns)).decode() if turns else ""


def _address(form: Setup) -> str:
    """The page's address with this setup."""
    given = {name: value for name in _SETUP if (value := getattr(form, name)) is not None}
    return f"/playground?{urlencode(given)}"


def _code(context: Context, form: Setup) -> dict[str, Any]:
    turns = _turns(form.history)
    kind: Kind = "stream"

    def of(number: int) -> list[Snippet]:
        body = _body(form, turns, number)
        return snippets(api_base(context), body.pop("model"), kind, request={name: body[name] for name in body if name != "stream"})

    return {"link": origin(context) + _address(form), "examples": [(alias, of(number)) for number, alias in enumerate(_models(form))]}
