"""Groups, users, keys and grants of an apply file."""

from collections.abc import Collection
from typing import Any

from msgspec import UNSET, UnsetType

from dwctl import clock, ids, money
from dwctl.accounts import NIL, hash_secret, hint_of, new_secret
from dwctl.config import ROLES
from dwctl.ledger import transactions
from dwctl.operations import api_keys, groups, users
from dwctl.operations.apply.document import GrantEntry, GroupEntry, KeyEntry, UserEntry
from dwctl.operations.apply.work import EVERYONE, Outcome, Work, sent
from dwctl.operations.audit import audit
from dwctl.operations.bounds import check_description, check_text, optional_text
from dwctl.operations.rows import change_row
from dwctl.store import Changes, Tx
from dwctl.store.tables import ApiKey, Group, Transaction, User, UserGroup

MIN_SECRET = 16


def check_group(work: Work, entry: GroupEntry) -> dict[str, Any]:
    """The group's columns as far as the file gives them. Raises GatewayError, ConfigurationError."""
    columns: dict[str, Any] = {"name": check_text(entry.name, "name")}
    if columns["name"] == EVERYONE:
        raise work.error("name", f"{EVERYONE} is there already and cannot be changed")
    if not isinstance(entry.description, UnsetType):
        columns["description"] = check_description(entry.description)
    return columns


async def group(work: Work, tx: Tx, entry: GroupEntry) -> Outcome:
    """Bring one group to what the file says. Raises GatewayError."""
    columns = check_group(work, entry)
    row = await Group.get_or_none(live_name=columns["name"], using_db=tx.orm)
    if row is None:
        group_id = ids.new_text()
        await groups.insert_group(tx, work.actor, group_id, **{"description": None, **columns}, source="native")
        await Changes.note(tx, "catalog", group_id)
        return "created"
    difference = await change_row(tx, row, columns)
    if not difference:
        return "unchanged"
    await work.audit(tx, "groups.update", "group", str(row.id), difference)
    return "updated"


def check_user(work: Work, entry: UserEntry) -> dict[str, Any]:
    """The user's columns as far as the file gives them. Raises GatewayError, ConfigurationError."""
    columns: dict[str, Any] = {"email": users.check_email(entry.email)}
    if not isinstance(entry.username, UnsetType):
        columns["username"] = check_text(entry.username, "username")
    if not isinstance(entry.display_name, UnsetType):
        columns["display_name"] = optional_text(entry.display_name, "display_name")
    if not isinstance(entry.roles, UnsetType):
        for role in entry.roles:
            if role not in ROLES:
                raise work.error("roles", f"there is no role {role!r}; roles are {', '.join(ROLES)}")
        columns["roles"] = users.with_standard(entry.roles)
    return columns


async def user(work: Work, tx: Tx, entry: UserEntry) -> Outcome:
    """Bring one user and their groups to what the file says. Raises GatewayError, ConfigurationError."""
    columns = check_user(work, entry)
    row = await User.get_or_none(live_email=columns["email"].lower(), using_db=tx.orm)
    if row is None or str(row.id) == NIL:  # The system's own address is taken.
        user_id = ids.new_text()
        fresh = {"username": columns["email"], "roles": users.with_standard(()), "auth_source": "system", **columns}
        await users.refuse_taken(tx, fresh["username"], fresh["email"])
        await users.insert_user(tx, work.actor, user_id, fresh, initial_credits_nano=0)
        changed = True
    else:
        user_id = str(row.id)
        changed = await _update_user(work, tx, row, columns)
    if not isinstance(entry.groups, UnsetType):
        changed |= await _set_memberships(work, tx, user_id, await work.groups(tx, entry.groups), row)
    if changed:
        await Changes.note(tx, "user", user_id)
    return "created" if row is None else "updated" if changed else "unchanged"


def _refuse_stranger(work: Work, row: User | None, field: str) -> None:
    """Raise ConfigurationError if the account may be anybody's: whoever registered it has the password, and nobody has asked whether the
    address is theirs."""
    if row is not None and row.auth_source == "native" and not row.verified:
        remedy = "tick Verified on its page if it is the right one's, or delete it first"
        raise work.error(field, f"this account was registered by whoever has its password: {remedy}")


async def _update_user(work: Work, tx: Tx, row: User, columns: dict[str, Any]) -> bool:
    wished = {name: value for name, value in columns.items() if name != "email"}
    if wished.get("username", row.username) != row.username:
        await users.refuse_taken(tx, wished["username"], "")
        wished["live_username"] = wished["username"]
    if set(wished.get("roles", ())) == set(row.roles):
        # The same roles in another order.
        wished.pop("roles", None)
    if set(wished.get("roles", ())) - set(row.roles):
        _refuse_stranger(work, row, "roles")
    difference = await change_row(tx, row, wished)
    difference.pop("live_username", None)
    if difference:
        await work.audit(tx, "users.update", "user", str(row.id), difference)
    return bool(difference)


async def _set_memberships(work: Work, tx: Tx, user_id: str, wished: Collection[str], row: User | None) -> bool:
    wanted = set(wished) - {NIL}
    rows = await UserGroup.filter(user_id=user_id).using_db(tx.orm).values_list("group_id", flat=True)
    held = {str(group_id) for group_id in rows}
    if wanted == held:
        return False
    if wanted - held:
        _refuse_stranger(work, row, "groups")
    if held - wanted:
        await UserGroup.filter(user_id=user_id, group_id__in=list(held - wanted)).using_db(tx.orm).delete()
    for group_id in sorted(wanted - held):
        await UserGroup.create(user_id=user_id, group_id=group_id, using_db=tx.orm)
    await audit(tx, work.actor, "users.groups", "user", user_id, {"groups": sorted(held)}, {"groups": sorted(wanted)})
    return True


async def _account(work: Work, tx: Tx, email: str) -> User:
    """The user that the present entry names."""
    row = await User.get_or_none(live_email=email.strip().lower(), using_db=tx.orm)
    if row is None or str(row.id) == NIL:
        raise work.error("user", f"there is no user {email!r}")
    return row


def check_grant(work: Work, entry: GrantEntry) -> int:
    """The amount in nano-credits. Raises ConfigurationError."""
    try:
        amount = money.parse_amount(str(entry.amount))
    except ValueError as error:
        raise work.error("amount", str(error)) from error
    if amount <= 0:
        raise work.error("amount", "must be above zero")
    return amount


async def grant(work: Work, tx: Tx, entry: GrantEntry) -> Outcome:
    """Post one grant, unless it was. Raises GatewayError, ConfigurationError."""
    amount = check_grant(work, entry)
    user_row = await _account(work, tx, entry.user)
    account = str(user_row.id)
    earlier = await Transaction.get_or_none(source_id=entry.source_id, using_db=tx.orm)
    if earlier is not None:
        if (str(earlier.account_id), earlier.amount_nano, earlier.transaction_type) != (account, amount, "admin_grant"):
            raise work.error(
                "source_id", f"{entry.source_id!r} was already used, for another user or amount: what was granted cannot be changed"
            )
        return "unchanged"
    _refuse_stranger(work, user_row, "user")
    posting = await transactions.grant(tx, account, amount, entry.source_id, entry.description)
    after = {"user_id": account, "transaction_type": "admin_grant", "amount": money.format_amount(amount), "source_id": entry.source_id}
    await audit(tx, work.actor, "transactions.create", "transaction", posting.id, None, {**after, "description": entry.description})
    await Changes.note(tx, "balance", account)
    return "created"


def check_key(work: Work, entry: KeyEntry) -> dict[str, Any]:
    """The key's columns as far as the file gives them. Raises GatewayError, ConfigurationError."""
    columns = api_keys.check_columns(sent(entry, *api_keys.CHANGEABLE))
    secret_of(work, entry)
    return {**columns, **sent(entry, "purpose")}


def secret_of(work: Work, entry: KeyEntry) -> str | None:
    """The secret that the file gives, or None. Raises ConfigurationError."""
    given = work.given(entry, "secret")
    if given is UNSET:
        return None
    if len(given) < MIN_SECRET or not given.isascii() or not given.isprintable() or " " in given:
        raise work.error("secret", f"must be at least {MIN_SECRET} printable ASCII characters without spaces")
    return str(given)


async def key(work: Work, tx: Tx, entry: KeyEntry) -> Outcome:
    """Bring one key to what the file says; a secret that had to be made is put into ``work.made``.
    Raises GatewayError, ConfigurationError."""
    columns = check_key(work, entry)
    name = columns["name"]
    given = secret_of(work, entry)
    user_row = await _account(work, tx, entry.user)
    owner = str(user_row.id)
    row = await ApiKey.get_or_none(user_id=owner, created_by=owner, live_name=name, hidden=False, using_db=tx.orm)
    if given is not None and (row is None or row.secret_hash != hash_secret(given)):
        columns |= {"secret_hash": hash_secret(given), "secret_hint": hint_of(given)}
        if await ApiKey.filter(secret_hash=columns["secret_hash"]).using_db(tx.orm).exists():
            raise work.error("secret", "another key, live or deleted, has or had this secret")
    if row is None:
        _refuse_stranger(work, user_row, "user")
        columns.setdefault("purpose", "realtime")
        if given is None:
            secret, columns["secret_hash"], columns["secret_hint"] = new_secret()
            work.made[entry.user, name] = secret
        now = clock.now_us()
        row = await ApiKey.create(
            id=ids.new(),
            live_name=name,
            user_id=owner,
            created_by=owner,
            created_at=now,
            updated_at=now,
            using_db=tx.orm,
            **columns,
        )
        after = {"user_id": owner, **columns}
        await audit(tx, work.actor, "api_keys.create", "api_key", str(row.id), None, after)
        await Changes.note(tx, "key", str(row.id))
        return "created"
    difference = await change_row(tx, row, columns)
    if not difference:
        return "unchanged"
    _refuse_stranger(work, user_row, "user")
    await work.audit(tx, "api_keys.update", "api_key", str(row.id), difference)
    await Changes.note(tx, "key", str(row.id))
    return "updated"
