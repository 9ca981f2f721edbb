"""``/admin/users``: who there is, what they may do, which groups they are in; inviting, resetting a password, deleting."""

from collections.abc import Collection
from typing import Literal

import msgspec

from dwctl.accounts import NIL
from dwctl.accounts.passwords import generate
from dwctl.accounts.policy import MEANINGS, UNUSED
from dwctl.config import Role
from dwctl.doorway import Needs, Route
from dwctl.operations import groups, sign_in, users
from dwctl.operations.account_views import UserResponse
from dwctl.operations.consequences import consequences, joining
from dwctl.operations.users import UserCreate, UserUpdate
from dwctl.web import several
from dwctl.web.addresses import address, origin
from dwctl.web.context import Context
from dwctl.web.deletion import add_deletion, sentences
from dwctl.web.formats import role_words
from dwctl.web.forms import wrong
from dwctl.web.groups import group_choices
from dwctl.web.pages import Go, Nav, PageNumber, View, go, page, view
from dwctl.web.several import SeveralForm
from dwctl.web.undo import undoable

ROUTES: list[Route] = []
SIZE = 25
_TRAIL = ("Users", "/admin/users")


class UsersQuery(msgspec.Struct, kw_only=True):
    q: str | None = None
    page: PageNumber = 1


class NewUserForm(msgspec.Struct, kw_only=True):
    email: str
    username: str | None = None
    display_name: str | None = None
    roles: list[Role] = []
    way: Literal["made", "typed", "proxy"]
    """A made password, a typed one, or none, for whoever signs in through a proxy."""
    password: str | None = None


class UserForm(msgspec.Struct, kw_only=True):
    display_name: str | None = None
    roles: list[Role] = []
    verified: bool = False
    zero_data_retention: bool = False
    revision: int


class GroupsForm(msgspec.Struct, kw_only=True):
    groups: list[str] = []
    revision: int


@page(
    ROUTES,
    "GET",
    "/admin/users",
    policy=Needs("Users", "read_all"),
    query=UsersQuery,
    summary="Users",
    nav=Nav("Configure", "Users", "users", 60, key="u"),
)
async def list_page(context: Context) -> View:
    """Users, newest first."""
    query: UsersQuery = context.query
    found, total = await users.list_users(
        context.services, context.actor, skip=(query.page - 1) * SIZE, limit=SIZE, search=query.q, include=("groups",)
    )
    return view(
        "users/list.html",
        users=found,
        total=total,
        balances={user.id: context.services.ledger.balances.balance(user.id) for user in found},
        size=SIZE,
        page=query.page,
        q=query.q,
        groups=await _groups(context),
    )


async def _groups(context: Context) -> list[tuple[str, str, str | None]]:
    """The groups that users can be put into."""
    return [choice for choice in await group_choices(context) if choice[0] != NIL]


def _back(context: Context) -> tuple[str, str]:
    """The list as it was."""
    return "Users", address("/admin/users", {"q": context.query.q})


async def _chosen(context: Context) -> several.Rows:
    query: UsersQuery = context.query
    found, total = await users.list_users(
        context.services, context.actor, skip=0, limit=several.MOST, search=query.q, ids=several.chosen_of(context).ids
    )
    return several.rows(((user.id, user.email) for user in found), total, ("user", "users"))


@page(ROUTES, "GET", "/admin/users/delete", policy=Needs("Users", "delete_all"), query=UsersQuery, summary="Delete users")
async def ask_delete_several(context: Context) -> View:
    """What goes with them, counted."""
    chosen = await _chosen(context)
    found = await consequences(context.services, context.actor, "user", *chosen.ids) if chosen.ids else None
    return several.asking(chosen, "Delete", sentences("user", found, len(chosen.ids)) if found else [], trail=_back(context), danger=True)


@page(
    ROUTES,
    "POST",
    "/admin/users/delete",
    policy=Needs("Users", "delete_all"),
    query=UsersQuery,
    form=SeveralForm,
    again=ask_delete_several,
    summary="Delete users",
)
async def delete_several(context: Context) -> Go:
    """Delete them all, or none."""
    chosen = await _chosen(context)
    several.check(context.body, chosen, typed=True)
    await users.delete_users(context.services, context.actor, chosen.ids)
    return go("/admin/users", f"{chosen.said} deleted. Their keys and sessions have ended.")


@page(ROUTES, "GET", "/admin/users/join", policy=Needs("Groups", "update_all"), query=UsersQuery, summary="Add users to a group")
async def ask_join(context: Context) -> View:
    """What it gives them, counted."""
    chosen = await _chosen(context)
    if not chosen.ids:
        return several.asking(chosen, "Add", [], trail=_back(context))
    found = await joining(context.services, context.actor, several.chosen_of(context).needed_group, chosen.ids)
    return several.asking(chosen, "Add", several.join_sentences(found, len(chosen.ids)), trail=_back(context), rest=f"to {found.group}")


@page(
    ROUTES,
    "POST",
    "/admin/users/join",
    policy=Needs("Groups", "update_all"),
    query=UsersQuery,
    form=SeveralForm,
    again=ask_join,
    summary="Add users to a group",
)
async def join(context: Context) -> Go:
    """Make them all members, or none."""
    chosen, group_id = await _chosen(context), several.chosen_of(context).needed_group
    several.check(context.body, chosen)
    before = await groups.set_memberships(context.services, context.actor, {(user_id, group_id): True for user_id in chosen.ids})
    return go(f"/admin/groups/{group_id}", f"{len(before)} of {chosen.said} added.")


@page(ROUTES, "GET", "/admin/users/new", policy=Needs("Users", "create_all"), summary="New user")
async def new_page(context: Context) -> View:
    """The form for a new user."""
    auth = context.services.config.auth
    return view("users/new.html", roles=_roles(), native=auth.native.enabled, proxy=auth.proxy_header.enabled)


@page(ROUTES, "POST", "/admin/users/new", policy=Needs("Users", "create_all"), form=NewUserForm, again=new_page, summary="Create a user")
async def create(context: Context) -> View | Go:
    """Create the user; a password is shown once, with a text to send."""
    form: NewUserForm = context.body
    if form.way == "typed" and form.password is None:
        raise wrong("password", "Write a password, or choose that one is made.")
    password = {"made": generate(), "typed": form.password, "proxy": None}[form.way]
    body = UserCreate(username=form.username or form.email, email=form.email, display_name=form.display_name, roles=form.roles)
    user = await users.create_user(context.services, context.actor, body, password=password)
    if password is None:
        return go(f"/admin/users/{user.id}", f"{user.username} is created, and signs in through the proxy.")
    return _secret_view(context, user, password, created=True)


@page(ROUTES, "GET", "/admin/users/<user_id>", policy=Needs("Users", "read_all"), summary="User")
async def show(context: Context) -> View:
    """One user, with forms for what may be changed."""
    services, actor = context.services, context.actor
    user = await users.get_user(services, actor, context.uuid("user_id"), include=("groups",))
    mine = [group for group in user.groups or [] if group.id != NIL]
    every = await _groups(context)
    return view(
        "users/show.html",
        user=user,
        mine=mine,
        every=every,
        roles=_roles(user.roles),
        balance=services.ledger.balances.balance(user.id),
        native=services.config.auth.native.enabled,
    )


@page(ROUTES, "POST", "/admin/users/<user_id>", policy=Needs("Users", "update_all"), form=UserForm, again=show, summary="Change a user")
async def change(context: Context) -> Go:
    """Change name and roles."""
    form: UserForm = context.body
    body = UserUpdate(
        display_name=form.display_name or "",
        roles=form.roles,
        verified=form.verified,
        zero_data_retention=form.zero_data_retention,
    )
    user = await users.update_user(context.services, context.actor, context.uuid("user_id"), body, revision=form.revision)
    return go(f"/admin/users/{user.id}", f"{user.username} is saved.")


@page(
    ROUTES,
    "POST",
    "/admin/users/<user_id>/groups",
    policy=Needs("Groups", "update_all"),
    form=GroupsForm,
    again=show,
    summary="Change a user's groups",
)
async def change_groups(context: Context) -> Go:
    """Make the ticked groups the user's."""
    user_id = context.uuid("user_id")
    before = await groups.set_groups_of(context.services, context.actor, user_id, context.body.groups, revision=context.body.revision)
    back = f"/admin/users/{user_id}"
    return go(back, undoable(context, "The groups are saved, and hold for the next request.", "memberships", before, back=back))


@page(ROUTES, "POST", "/admin/users/<user_id>/password", policy=Needs("Users", "update_all"), summary="Reset a password")
async def reset_password(context: Context) -> View:
    """Give the user a made password, which is shown this once."""
    user_id = context.uuid("user_id")
    password = await sign_in.give_password(context.services, context.actor, user_id)
    return _secret_view(context, await users.read_user(context.services, user_id), password, created=False)


add_deletion(
    ROUTES,
    "user",
    "/admin/users/<user_id>",
    policy=Needs("Users", "delete_all"),
    trail=_TRAIL,
    delete=users.delete_user,
    said="{} is deleted. Their keys and sessions have ended.",
)


def _roles(held: Collection[str] = ()) -> list[tuple[str, str, str]]:
    """The roles that can be given or taken: value, words, what they are for. One that opens nothing is among them if it is held."""
    return [
        (role, role_words(role), meaning)
        for role, meaning in MEANINGS.items()
        if role != "StandardUser" and (role not in UNUSED or role in held)
    ]


def _secret_view(context: Context, user: UserResponse, password: str, *, created: bool) -> View:
    """The password and a text to send, in the only answer that shows them."""
    title = context.services.config.metadata.title or "dwctl"
    text = (
        f"Hello {user.display_name or user.username},\n\n"
        f"{f'you have an account at {title} now' if created else f'you have a new password at {title}'}. Sign in at\n\n"
        f"    {origin(context)}/login\n\n"
        f"with {user.email} and the password\n\n    {password}\n\nYou will be asked for a password of your own then.\n"
    )
    return view("users/password.html", once=True, user=user, password=password, text=text, created=created)
