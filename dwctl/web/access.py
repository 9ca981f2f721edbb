"""``/admin/access``: which group may call which model, as a table to tick, and why a user may call a model or what is missing."""

import msgspec

from dwctl.accounts import NIL
from dwctl.doorway import Needs, Route
from dwctl.errors import GatewayError
from dwctl.operations import groups, users
from dwctl.operations.access import AccessExplanation, Named, access_matrix, explain_access, set_grants
from dwctl.operations.rows import canonical
from dwctl.web.addresses import address
from dwctl.web.context import Context
from dwctl.web.forms import FormState, decode_fields, wrong
from dwctl.web.pages import Go, Nav, PageNumber, View, go, page, view
from dwctl.web.undo import undoable

ROUTES: list[Route] = []
SIZE = 50
_COLUMNS = 30
_SUGGESTED = 200


class MatrixQuery(msgspec.Struct, kw_only=True):
    """``q`` is part of a model's name, ``group`` of a group's."""

    q: str | None = None
    group: str | None = None
    page: PageNumber = 1


class MatrixForm(MatrixQuery, kw_only=True):
    """The table as it was shown (``before``) and as it was sent (``granted``): pairs ``group:model``. Only what differs is changed, so
    that whoever ticks something else at the same time loses nothing."""

    before: list[str] = []
    granted: list[str] = []


class ExplainQuery(msgspec.Struct, kw_only=True):
    """An e-mail address or id, and an alias or id."""

    user: str | None = None
    model: str | None = None


class FixForm(msgspec.Struct, kw_only=True):
    """Join the group, or (``share``) let the group call the model."""

    user: str
    model: str
    group: str
    share: bool = False


@page(
    ROUTES,
    "GET",
    "/admin/access",
    policy=Needs("Groups", "read_all"),
    query=MatrixQuery,
    summary="Access",
    nav=Nav("Configure", "Access", "shield-check", 62, key="a"),
)
async def show(context: Context) -> View:
    """The table: a row a model, a column a group."""
    if context.form is not None:
        # Of what could not be saved nothing is kept but which part of the table it was.
        return await _matrix(context, decode_fields(context.form.values, MatrixQuery))
    return await _matrix(context, context.query)


@page(ROUTES, "POST", "/admin/access", policy=Needs("Groups", "update_all"), form=MatrixForm, again=show, summary="Set who may call what")
async def save(context: Context) -> View | Go:
    """Change what differs from what was shown."""
    form: MatrixForm = context.body
    wanted = {}
    for pair in set(form.before) ^ set(form.granted):
        group_id, _, model_id = pair.partition(":")
        wanted[group_id, model_id] = pair in form.granted
    before = await set_grants(context.services, context.actor, wanted)
    back = address("/admin/access", {"q": form.q, "group": form.group, "page": form.page if form.page > 1 else None})
    said = f"{len(before)} {'change is' if len(before) == 1 else 'changes are'} saved." if before else "Nothing was changed."
    flash = undoable(context, said, "grants", before, back=back)
    if "hx-request" not in context.request.headers:
        return go(back, flash)
    shown = await _matrix(context, form)
    shown.flash = flash if flash.undo else None
    return shown


async def _matrix(context: Context, query: MatrixQuery) -> View:
    matrix = await access_matrix(context.services, context.actor)
    models, shown = _named(matrix.models, query.q), _named(matrix.groups, query.group)
    first = (query.page - 1) * SIZE
    return view(
        "access/matrix.html",
        groups=shown[:_COLUMNS],
        more_groups=len(shown) - _COLUMNS,
        models=models[first : first + SIZE],
        total=len(models),
        size=SIZE,
        page=query.page,
        granted=matrix.granted,
        everyone=NIL,
        q=query.q,
        group=query.group,
        any_models=bool(matrix.models),
    )


@page(ROUTES, "GET", "/admin/access/explain", policy=Needs("Groups", "read_all"), query=ExplainQuery, summary="Explain access")
async def explain(context: Context) -> View:
    """Whether a user may call a model: the path, or what is missing and what would mend it."""
    query = context.query or ExplainQuery(user=context.form.value("user") or None, model=context.form.value("model") or None)
    services, actor = context.services, context.actor
    matrix = await access_matrix(services, actor)
    anybody, _ = await users.list_users(services, actor, skip=0, limit=_SUGGESTED)
    found: AccessExplanation | None = None
    problems: dict[str, str] = {}
    if query.user and query.model:
        user = await users.find_user(services, actor, query.user)
        user_id = user.id if user is not None else canonical(query.user)
        model_id = next((model.id for model in matrix.models if query.model in (model.name, model.id)), None)
        if user_id is None:
            problems["user"] = "No account has this e-mail address."
        if model_id is None:
            problems["model"] = "There is no model of this name."
        if user_id is not None and model_id is not None:
            try:
                found = await explain_access(services, actor, user_id, model_id)
            except GatewayError as error:
                if error.status != 404:
                    raise
                problems["user"] = "No account has this id."
    sizes = await groups.sizes(services, actor, [group.id for group in found.would_share]) if found else {}
    return view(
        "access/explain.html",
        state=FormState("/admin/access/explain", {"user": [query.user or ""], "model": [query.model or ""]}, problems),
        found=found,
        sizes=sizes,
        users=[user.email for user in anybody],
        models=[model.name for model in matrix.models],
    )


@page(
    ROUTES,
    "POST",
    "/admin/access/explain",
    policy=Needs("Groups", "update_all"),
    form=FixForm,
    again=explain,
    summary="Grant what is missing",
)
async def fix(context: Context) -> Go:
    """Grant access by one group, and show that it is granted."""
    form: FixForm = context.body
    services, actor = context.services, context.actor
    user = await users.find_user(services, actor, form.user)
    if user is None:
        raise wrong("user", "No account has this e-mail address.")
    matrix = await access_matrix(services, actor)
    model_id = next((model.id for model in matrix.models if model.name == form.model), form.model)
    if form.share:
        await set_grants(services, actor, {(form.group, model_id): True})
    else:
        await groups.add_member(services, actor, form.group, user.id)
    return go(address("/admin/access/explain", {"user": form.user, "model": form.model}), "Granted. It holds from the next request on.")


def _named(things: list[Named], part: str | None) -> list[Named]:
    wanted = (part or "").strip().lower()
    return [thing for thing in things if wanted in thing.name.lower()]
