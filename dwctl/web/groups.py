"""``/admin/groups``: who belongs together, and which models they may call."""

import msgspec

from dwctl.accounts import NIL, policy
from dwctl.doorway import Needs, Route
from dwctl.operations import groups, users
from dwctl.operations.access import access_matrix, set_grants
from dwctl.operations.account_views import UserResponse
from dwctl.operations.groups import GroupCreate, GroupUpdate
from dwctl.web.context import Context
from dwctl.web.deletion import add_deletion
from dwctl.web.forms import wrong
from dwctl.web.pages import Go, Nav, PageNumber, View, go, page, view
from dwctl.web.undo import undoable

ROUTES: list[Route] = []
SIZE = 25
_SUGGESTED = 100
_MOST_CHOICES = 500


class GroupsQuery(msgspec.Struct, kw_only=True):
    q: str | None = None
    page: PageNumber = 1


class MembersQuery(msgspec.Struct, kw_only=True):
    page: PageNumber = 1


class NewGroupForm(msgspec.Struct, kw_only=True):
    name: str
    description: str | None = None


class GroupForm(NewGroupForm, kw_only=True):
    revision: int


class MemberForm(msgspec.Struct, kw_only=True):
    email: str


class FormerMemberForm(msgspec.Struct, kw_only=True):
    user: str


class ModelForm(msgspec.Struct, kw_only=True):
    model: str
    allowed: bool = False


@page(
    ROUTES,
    "GET",
    "/admin/groups",
    policy=Needs("Groups", "read_all"),
    query=GroupsQuery,
    summary="Groups",
    nav=Nav("Configure", "Groups", "users-round", 61, key="o"),
)
async def list_page(context: Context) -> View:
    """Groups by name."""
    query: GroupsQuery = context.query
    services, actor = context.services, context.actor
    found, total = await groups.list_groups(services, actor, skip=(query.page - 1) * SIZE, limit=SIZE, search=query.q)
    sizes = await groups.sizes(services, actor, [group.id for group in found])
    return view("groups/list.html", groups=found, sizes=sizes, total=total, size=SIZE, page=query.page, q=query.q, everyone=NIL)


@page(ROUTES, "GET", "/admin/groups/new", policy=Needs("Groups", "create_all"), summary="New group")
async def new_page(context: Context) -> View:
    """The form for a new group."""
    return view("groups/new.html")


@page(
    ROUTES, "POST", "/admin/groups/new", policy=Needs("Groups", "create_all"), form=NewGroupForm, again=new_page, summary="Create a group"
)
async def create(context: Context) -> Go:
    """Create it, without members and models."""
    form: NewGroupForm = context.body
    group = await groups.create_group(context.services, context.actor, GroupCreate(name=form.name, description=form.description))
    return go(f"/admin/groups/{group.id}", f"{group.name} is created. Now add members and models.")


@page(ROUTES, "GET", "/admin/groups/<group_id>", policy=Needs("Groups", "read_all"), query=MembersQuery, summary="Group")
async def show(context: Context) -> View:
    """One group with its members and models."""
    services, actor = context.services, context.actor
    query = context.query or MembersQuery()
    group = await groups.get_group(services, actor, context.uuid("group_id"))
    members: list[UserResponse] = []
    total, suggested = 0, list[str]()
    if policy.allows(actor, "Users", "read_all"):
        members, total = await groups.list_members(services, actor, group.id, skip=(query.page - 1) * SIZE, limit=SIZE)
        anybody, _ = await users.list_users(services, actor, skip=0, limit=_SUGGESTED)
        suggested = [user.email for user in anybody if user.id not in {member.id for member in members}]
    matrix = await access_matrix(services, actor)
    held = [model for model in matrix.models if (group.id, model.id) in matrix.granted]
    others = [(model.id, model.name) for model in matrix.models if (group.id, model.id) not in matrix.granted]
    return view(
        "groups/show.html",
        group=group,
        protected=group.id == NIL,
        members=members,
        total=total,
        size=SIZE,
        page=query.page,
        suggested=suggested,
        models=held,
        others=others,
    )


@page(
    ROUTES, "POST", "/admin/groups/<group_id>", policy=Needs("Groups", "update_all"), form=GroupForm, again=show, summary="Change a group"
)
async def change(context: Context) -> Go:
    """Change name and description."""
    form: GroupForm = context.body
    body = GroupUpdate(name=form.name, description=form.description or "")
    group = await groups.update_group(context.services, context.actor, context.uuid("group_id"), body, revision=form.revision)
    return go(f"/admin/groups/{group.id}", f"{group.name} is saved.")


@page(
    ROUTES,
    "POST",
    "/admin/groups/<group_id>/members",
    policy=Needs("Groups", "update_all"),
    form=MemberForm,
    again=show,
    summary="Add a member to a group",
)
async def add_member(context: Context) -> Go:
    """Make somebody a member, by their e-mail address."""
    group_id = context.uuid("group_id")
    user = await users.find_user(context.services, context.actor, context.body.email)
    if user is None:
        raise wrong("email", "No account has this e-mail address.")
    await groups.add_member(context.services, context.actor, group_id, user.id)
    return go(f"/admin/groups/{group_id}", f"{user.email} is a member.")


@page(
    ROUTES,
    "POST",
    "/admin/groups/<group_id>/members/remove",
    policy=Needs("Groups", "update_all"),
    form=FormerMemberForm,
    again=show,
    summary="Remove a member from a group",
)
async def remove_member(context: Context) -> Go:
    """End a membership."""
    group_id = context.uuid("group_id")
    user = await users.read_user(context.services, context.body.user)
    before = await groups.remove_member(context.services, context.actor, group_id, user.id)
    back = f"/admin/groups/{group_id}"
    return go(back, undoable(context, f"{user.email} is no longer a member.", "memberships", before, back=back))


@page(
    ROUTES,
    "POST",
    "/admin/groups/<group_id>/models",
    policy=Needs("Groups", "update_all"),
    form=ModelForm,
    again=show,
    summary="Let a group call a model, or no longer",
)
async def change_model(context: Context) -> Go:
    """Set whether the group may call one model."""
    group_id, form = context.uuid("group_id"), context.body
    before = await set_grants(context.services, context.actor, {(group_id, form.model): form.allowed})
    back, said = f"/admin/groups/{group_id}", "The model is added." if form.allowed else "The model is removed."
    return go(back, undoable(context, said, "grants", before, back=back))


add_deletion(
    ROUTES,
    "group",
    "/admin/groups/<group_id>",
    policy=Needs("Groups", "delete_all"),
    trail=("Groups", "/admin/groups"),
    delete=groups.delete_group,
    said="{} is deleted. Its members have lost what only it gave them.",
)


async def group_choices(context: Context) -> list[tuple[str, str, str | None]]:
    """The groups, Everyone with them, as choices for whoever may change what they have: id, name, what it is."""
    if not policy.allows(context.actor, "Groups", "update_all"):
        return []
    found, _ = await groups.list_groups(context.services, context.actor, skip=0, limit=_MOST_CHOICES)
    return [(group.id, group.name, "Every user, also those to come." if group.id == NIL else group.description) for group in found]
