"""Signing in and out with a password: sessions, cookies, cross-site requests, guessing."""

import asyncio
import re
import time
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from multidict import CIMultiDict
from yarl import URL

from dwctl import clock
from dwctl.accounts import NIL, SYSTEM, Actor
from dwctl.config.schema import Auth, Email, Native, Password, ProxyHeader, Session
from dwctl.errors import GatewayError
from dwctl.operations import sign_in
from dwctl.operations.first_start import ensure_administrator
from dwctl.operations.sign_in import reset_password
from dwctl.operations.users import UserCreate, create_user
from tests.administration import ADMIN_EMAIL, ADMIN_PASSWORD, QUICK, Administration, configuration, serving

CURRENT = "/admin/api/v1/users/current"
CHANGE = "/authentication/password-change"
RESETS = "/authentication/password-resets"


async def test_sign_in_sets_an_opaque_cookie(server: Administration) -> None:
    answer = await server.sign_in(ADMIN_EMAIL.upper(), ADMIN_PASSWORD)
    assert (answer.status, answer.message, answer.body["user"]["email"]) == (200, "Login successful", ADMIN_EMAIL)
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    name, _, token = cookie.partition("=")
    assert name == "dwctl_session"
    assert len(token) == 43
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=86400"}
    assert (await server.ask("GET", CURRENT, cookie=cookie)).body["email"] == ADMIN_EMAIL
    assert (await server.ask("GET", CURRENT, cookie=cookie)).body["last_login"] is not None
    assert token not in str(await server.services.store.fetch("SELECT * FROM sessions"))
    assert (await server.ask("GET", CURRENT, cookie=f"dwctl_session={token}x")).status == 401
    assert (await server.audit("sessions.create"))[0]["actor"] == ADMIN_EMAIL


@pytest.mark.parametrize(
    ("email", "password"),
    [
        (ADMIN_EMAIL, "wrong"),
        (ADMIN_EMAIL, ""),
        ("nobody@example.com", ADMIN_PASSWORD),
        ("passwordless@example.com", "anything"),
        ("system@internal", "anything"),
        (ADMIN_EMAIL, "x" * 10_000),
    ],
)
async def test_every_failure_looks_the_same(server: Administration, email: str, password: str) -> None:
    await server.person(name="passwordless")
    answer = await server.sign_in(email, password)
    assert (answer.status, answer.message) == (401, "Invalid email or password")
    assert "Set-Cookie" not in answer.headers


async def test_unknown_account_costs_as_much_as_a_wrong_password(sqlite_url: str, data_dir: Path) -> None:
    slow = Password(argon2_memory_kib=65_536, argon2_iterations=3)
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=Auth(native=Native(password=slow)))) as server:
        await server.sign_in("first@example.com", "x")  # makes the decoy

        async def fastest(email: str) -> float:
            times = []
            for _ in range(3):
                started = time.perf_counter()
                await server.sign_in(email, "wrong")
                times.append(time.perf_counter() - started)
            return min(times)

        known, unknown = await fastest(ADMIN_EMAIL), await fastest("nobody@example.com")
        assert unknown > known / 2


async def test_sign_out_ends_the_session(server: Administration) -> None:
    cookie, other = await server.cookie_of(), await server.cookie_of()
    answer = await server.ask("POST", "/authentication/logout", cookie=cookie)
    assert (answer.status, answer.message) == (200, "Logout successful")
    assert "dwctl_session=; " in answer.headers["Set-Cookie"]
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert (await server.ask("GET", CURRENT, cookie=cookie)).status == 401
    assert (await server.ask("GET", CURRENT, cookie=other)).status == 200
    assert (await server.ask("POST", "/authentication/logout")).status == 200


async def test_expired_session_is_nobody(server: Administration) -> None:
    cookie = await server.cookie_of()

    async def expire(tx: object) -> None:
        await tx.execute("UPDATE sessions SET expires_at = 1")  # type: ignore[attr-defined]

    await server.services.store.write(expire)
    assert (await server.ask("GET", CURRENT, cookie=cookie)).status == 401
    await server.cookie_of()
    assert len(await server.services.store.fetch("SELECT * FROM sessions")) == 1


async def test_password_change_ends_the_other_sessions(server: Administration) -> None:
    cookie, other = await server.cookie_of(), await server.cookie_of()
    change = {"current_password": ADMIN_PASSWORD, "new_password": "another password"}
    assert (await server.ask("POST", CHANGE, json=change)).status == 401
    wrong = await server.ask("POST", CHANGE, cookie=cookie, json=change | {"current_password": "no"})
    assert (wrong.status, wrong.message) == (401, "Current password is incorrect")
    short = await server.ask("POST", CHANGE, cookie=cookie, json=change | {"new_password": "short"})
    assert (short.status, short.param) == (400, "new_password")
    long = await server.ask("POST", CHANGE, cookie=cookie, json=change | {"new_password": "ä" * 33})
    assert (long.status, long.param) == (400, "new_password")
    assert "no more than 64 bytes and has 66" in long.message
    assert (await server.ask("POST", CHANGE, cookie=cookie, json=change)).status == 200
    assert (await server.ask("GET", CURRENT, cookie=cookie)).status == 200
    assert (await server.ask("GET", CURRENT, cookie=other)).status == 401
    assert (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).status == 401
    assert (await server.sign_in(ADMIN_EMAIL, "another password")).status == 200
    key = await server.admin_secret()
    assert (await server.ask("POST", CHANGE, secret=key, json=change)).status == 400


async def test_a_forgotten_password_is_set_anew_by_mail(sqlite_url: str, data_dir: Path) -> None:
    folder = data_dir / "mail"
    config = configuration(data_dir, sqlite_url, email=Email(type="file", path=folder), dashboard_url="https://gateway.example")
    async with serving(sqlite_url, config) as server:
        cookie = await server.cookie_of()
        nobody, somebody = [
            await server.ask("POST", RESETS, json={"email": email}) for email in ("nobody@example.com", ADMIN_EMAIL.upper())
        ]
        assert (nobody.status, nobody.body) == (somebody.status, somebody.body) == (200, nobody.body)
        await asyncio.gather(*server.services.tasks)
        [mail] = folder.glob("*.eml")
        message = message_from_bytes(mail.read_bytes(), policy=policy.default)
        found = re.search(r"/reset\?link=(\S+)", message.get_content())
        assert found is not None
        confirm, body = f"{RESETS}/any/confirm", {"token": found.group(1), "new_password": "another password"}
        short = await server.ask("POST", confirm, json=body | {"new_password": "short"})
        assert (short.status, short.param) == (400, "new_password")
        wrong = await server.ask("POST", confirm, json=body | {"token": "x"})
        assert (wrong.status, wrong.body["error"]["code"]) == (400, "reset_link_expired")
        assert (await server.ask("POST", confirm, json=body)).status == 200
        assert (await server.ask("POST", confirm, json=body)).body["error"]["code"] == "reset_link_expired"
        assert (await server.ask("GET", CURRENT, cookie=cookie)).status == 401
        assert (await server.sign_in(ADMIN_EMAIL, "another password")).status == 200


async def test_a_link_ends_with_the_password_that_it_was_to_replace(sqlite_url: str, data_dir: Path) -> None:
    folder = data_dir / "mail"
    mailing = {"email": Email(type="file", path=folder), "dashboard_url": "https://gateway.example"}
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, **mailing)) as server:
        services, ada, first = server.services, "ada@example.com", "a first password"
        ada_id = await server.password_user(ada, first)
        administrator = Actor(NIL, ADMIN_EMAIL, True, frozenset(), "session", None)

        async def link() -> str:
            await server.ask("POST", RESETS, json={"email": ada})
            await asyncio.gather(*services.tasks)
            [mail] = folder.glob("*.eml")
            found = re.search(r"/reset\?link=(\S+)", message_from_bytes(mail.read_bytes(), policy=policy.default).get_content())
            mail.unlink()
            assert found is not None
            return found.group(1)

        async def changed() -> None:
            change = {"current_password": first, "new_password": "a password of her own"}
            answer = await server.ask("POST", CHANGE, cookie=await server.cookie_of(ada, first), json=change)
            assert answer.status == 200

        for replace in (
            changed,
            lambda: reset_password(services.store, ada, services.config),
            lambda: sign_in.give_password(services, administrator, ada_id),
        ):
            token = await link()
            await replace()
            late = await server.ask("POST", f"{RESETS}/any/confirm", json={"token": token, "new_password": "of somebody else"})
            assert (late.status, late.body["error"]["code"]) == (400, "reset_link_expired")


async def test_without_mail_nobody_is_told_to_wait_for_it(server: Administration) -> None:
    answer = await server.ask("POST", RESETS, json={"email": ADMIN_EMAIL})
    assert (answer.status, answer.body["error"]["code"]) == (400, "mail_not_configured")


async def test_bad_bearer_beside_a_good_cookie_is_the_cookies_user(server: Administration) -> None:
    cookie = await server.cookie_of()
    assert (await server.ask("GET", CURRENT, cookie=cookie, secret="sk-wrong")).status == 200
    refused = await server.ask("GET", CURRENT, secret="sk-wrong")
    assert (refused.status, refused.message) == (401, "Authentication required")
    assert (await server.ask("GET", CURRENT, headers={"Authorization": "Basic eDp5"})).status == 401
    assert (await server.ask("GET", CURRENT, headers={"Authorization": "Bearer \udcff"})).status in (400, 401)


SAME, OTHER = "http://{host}", "https://evil.example"


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": OTHER}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": SAME}, False),
        ({"Origin": SAME}, True),
        ({"Origin": OTHER}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
        ({"Origin": OTHER, "X-Forwarded-Host": "evil.example"}, False),
    ],
)
async def test_cross_site_requests_with_a_cookie(server: Administration, headers: dict[str, str], passes: bool) -> None:
    sent = {name: value.format(host=server.url.removeprefix("http://")) for name, value in headers.items()}
    cookie = await server.cookie_of()
    body = {"display_name": "changed"}
    answer = await server.ask("PATCH", CURRENT, cookie=cookie, json=body, headers=sent)
    assert answer.status == (200 if passes else 403), answer
    user = (await server.ask("GET", CURRENT, cookie=cookie, headers=sent)).body
    assert (user["display_name"] == "changed") is passes
    # A key is not something that a browser brings along by itself.
    assert (await server.admin("PATCH", "/users/current", json=body, headers=sent)).status == 200
    # Nor may another site sign somebody in or out.
    assert (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD, **sent)).status == (200 if passes else 403)
    assert (await server.ask("POST", "/authentication/logout", cookie=cookie, headers=sent)).status == (200 if passes else 403)


async def test_guessing_is_slowed_down_for_one_account(server: Administration) -> None:
    for _ in range(10):
        assert (await server.sign_in(ADMIN_EMAIL, "guess")).status == 401
    refused = await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    assert refused.status == 429
    assert refused.body["error"]["code"] == "too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert refused.body["retry_after_seconds"] == int(refused.headers["Retry-After"])
    await server.password_user("other@example.com", "a long password")
    assert (await server.sign_in("other@example.com", "a long password")).status == 200


async def test_guessing_is_slowed_down_for_one_address(server: Administration) -> None:
    statuses = [(await server.sign_in(f"user{number}@example.com", "guess")).status for number in range(31)]
    assert statuses == [401] * 30 + [429]


async def test_guessing_from_many_addresses_of_one_network_is_slowed_down(server: Administration) -> None:
    """One subscriber has a whole /64 of IPv6 addresses."""
    for number in range(30):
        sign_in.count_attempt(server.services, f"user{number}", f"2001:db8:0:1::{number:x}")
    with pytest.raises(GatewayError):
        sign_in.count_attempt(server.services, "another", "2001:db8:0:1:ffff::1")
    sign_in.count_attempt(server.services, "another", "2001:db8:0:2::1")
    sign_in.count_attempt(server.services, "another", "192.0.2.1")


async def test_an_address_that_must_wait_locks_no_account_and_keeps_no_memory(server: Administration) -> None:
    for number in range(30):
        await server.sign_in(f"user{number}@example.com", "guess")
    assert {(await server.sign_in(ADMIN_EMAIL, "guess")).status for _ in range(15)} == {429}
    assert server.services.attempts_by_account.take(ADMIN_EMAIL, clock.monotonic()) is None
    assert (await server.sign_in("x" * 20_000, "guess")).status == 413
    with pytest.raises(GatewayError):
        await sign_in.sign_in(server.services, "x" * 20_000, "guess", sign_in.Client("192.0.2.1", None))
    assert max(map(len, server.services.attempts_by_account._due)) <= 320


async def test_a_password_changed_meanwhile_opens_no_session(server: Administration, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords, verify = server.services.passwords, server.services.passwords.verify

    async def slow(stored: str | None, password: str) -> bool:
        right = await verify(stored, password)
        monkeypatch.undo()
        await sign_in.reset_password(server.services.store, ADMIN_EMAIL, server.services.config)
        return right

    monkeypatch.setattr(passwords, "verify", slow)
    assert (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).status == 401
    assert await server.services.store.fetch("SELECT id_hash FROM sessions") == []


async def test_signing_in_rightly_is_not_counted(server: Administration) -> None:
    assert [(await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).status for _ in range(40)] == [200] * 40


@pytest.mark.parametrize("field", ["email", "password"])
@pytest.mark.parametrize("text", [b"a\\u0000b", b"a\\ud800b"])
async def test_unstorable_text_names_the_field(server: Administration, field: str, text: bytes) -> None:
    fields = {"email": b"a@b", "password": b"c"} | {field: text}
    body = b'{"email":"%b","password":"%b"}' % (fields["email"], fields["password"])
    answer = await server.ask("POST", "/authentication/login", data=body)
    assert (answer.status, answer.param) == (400, field)


async def test_availability(server: Administration) -> None:
    assert (await server.ask("GET", "/authentication/login")).body["enabled"] is True
    assert (await server.ask("GET", "/authentication/register")).body["enabled"] is False
    body = {"username": "ada", "email": "ada@example.com", "password": "a long password"}
    assert (await server.ask("POST", "/authentication/register", json=body)).status == 400


async def test_registration(database_url: str, data_dir: Path) -> None:
    auth = Auth(native=Native(password=QUICK, allow_registration=True), default_user_roles=("RequestViewer",))
    async with serving(database_url, configuration(data_dir, database_url, auth=auth)) as server:
        body = {"username": "ada", "email": "ada@example.com", "password": "a long password"}
        for change, status, param in (
            ({"password": "short"}, 400, "password"),
            ({"email": "x"}, 400, "email"),
            ({"username": ""}, 400, "username"),
            ({"email": ADMIN_EMAIL}, 400, "email"),
            ({"username": ADMIN_EMAIL}, 409, "username"),
        ):
            answer = await server.ask("POST", "/authentication/register", json=body | change)
            assert (answer.status, answer.param) == (status, param)
        answer = await server.ask("POST", "/authentication/register", json=body)
        user = answer.body["user"]
        assert (answer.status, user["display_name"], user["auth_source"]) == (201, "ada", "native")
        assert user["roles"] == ["StandardUser", "RequestViewer"]
        cookie = answer.headers["Set-Cookie"].split(";")[0]
        assert (await server.ask("GET", CURRENT, cookie=cookie)).body["id"] == user["id"]
        assert (await server.sign_in("ada@example.com", "a long password")).status == 200


async def test_native_sign_in_can_be_off(sqlite_url: str, data_dir: Path) -> None:
    config = configuration(data_dir, sqlite_url)
    async with serving(sqlite_url, config) as server:
        cookie = await server.cookie_of()
    off = Auth(native=Native(enabled=False, password=QUICK))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=off)) as server:
        assert (await server.ask("GET", "/authentication/login")).body["enabled"] is False
        assert (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).status == 400
        assert (await server.ask("GET", CURRENT, cookie=cookie)).status == 401


async def test_https_behind_a_trusted_proxy_hardens_the_cookie(sqlite_url: str, data_dir: Path) -> None:
    auth = Auth(native=Native(password=QUICK, session=Session(timeout=60.0, cookie_name="seat", cookie_same_site="lax")))
    https = {"X-Forwarded-Proto": "https"}
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth, trusted_proxies=("127.0.0.0/8",))) as server:
        cookie, *attributes = (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD, **https)).headers["Set-Cookie"].split("; ")
        assert cookie.startswith("__Host-seat=")
        assert set(attributes) == {"Path=/", "HttpOnly", "Secure", "SameSite=Lax", "Max-Age=60"}
        assert (await server.ask("GET", CURRENT, cookie=cookie, headers=https)).status == 200
        # A cookie that a plain-http page could have set does not count over https.
        assert (await server.ask("GET", CURRENT, cookie=cookie.removeprefix("__Host-"), headers=https)).status == 401
        plain = (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).headers["Set-Cookie"]
        assert plain.startswith("seat=")
        assert "Secure" not in plain
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=auth)) as server:
        assert "Secure" not in (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD, **https)).headers["Set-Cookie"]


async def test_first_administrator(database_url: str, data_dir: Path) -> None:
    async with serving(database_url, configuration(data_dir, database_url)) as server:
        me = (await server.ask("GET", CURRENT, cookie=await server.cookie_of())).body
        assert (me["is_admin"], me["auth_source"], me["must_change_password"]) == (True, "system", False)
        assert me["roles"] == ["StandardUser", "PlatformManager"]
        await server.ask(
            "POST", CHANGE, cookie=await server.cookie_of(), json={"current_password": ADMIN_PASSWORD, "new_password": "my own password"}
        )
    # The configured password is for the first start alone.
    async with serving(database_url, configuration(data_dir, database_url)) as server:
        assert (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).status == 401
        assert (await server.sign_in(ADMIN_EMAIL, "my own password")).status == 200


async def test_no_password_is_made_where_nobody_signs_in_with_one(database_url: str, data_dir: Path) -> None:
    behind = Auth(native=Native(enabled=False, password=QUICK), proxy_header=ProxyHeader(enabled=True))
    config = configuration(data_dir, database_url, admin_email="boss@example.com", admin_password=None)
    async with serving(database_url, configuration(data_dir, database_url)) as server:
        server.services.config = configuration(data_dir, database_url, auth=behind, admin_email="boss@example.com", admin_password=None)
        for _ in range(2):
            assert await ensure_administrator(server.services) is None
        [boss] = await server.services.store.fetch("SELECT is_admin, password_hash FROM users WHERE email = ?", ["boss@example.com"])
        assert (bool(boss["is_admin"]), boss["password_hash"]) == (True, None)
        server.services.config = config
        password = await ensure_administrator(server.services)
        assert (await server.sign_in("boss@example.com", str(password))).body["user"]["must_change_password"] is True


async def test_generated_password_is_told_once_and_asks_for_a_change(database_url: str, data_dir: Path) -> None:
    config = configuration(data_dir, database_url, admin_email="boss@example.com", admin_password=None)
    async with serving(database_url, configuration(data_dir, database_url)) as server:
        server.services.config = config
        password = await ensure_administrator(server.services)
        assert password is not None
        assert len(password) >= 24
        assert await ensure_administrator(server.services) is None
        user = (await server.sign_in("boss@example.com", password)).body["user"]
        assert user["must_change_password"] is True
        change = {"current_password": password, "new_password": "my own password"}
        cookie = await server.cookie_of("boss@example.com", password)
        first = await server.ask("POST", f"{CURRENT}/api-keys", cookie=cookie, json={"name": "mine", "purpose": "platform"})
        assert (first.status, first.body["error"]["code"]) == (403, "password_change_required")
        await server.ask("POST", CHANGE, cookie=cookie, json=change)
        assert (await server.ask("GET", CURRENT, cookie=cookie)).body["must_change_password"] is False


async def test_reset_password_from_the_command_line(server: Administration) -> None:
    cookie = await server.cookie_of()
    fresh = await reset_password(server.services.store, ADMIN_EMAIL.upper())
    assert (await server.ask("GET", CURRENT, cookie=cookie)).status == 401
    assert (await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)).status == 401
    assert (await server.sign_in(ADMIN_EMAIL, fresh)).body["user"]["must_change_password"] is True
    with pytest.raises(LookupError):
        await reset_password(server.services.store, "nobody@example.com")
    assert (await server.audit("users.reset_password"))[0]["via"] == "cli"


async def test_outdated_hash_is_replaced_at_sign_in(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, configuration(data_dir, sqlite_url)) as server:
        await server.cookie_of()
    stronger = Auth(native=Native(password=Password(argon2_memory_kib=16, argon2_iterations=1)))
    async with serving(sqlite_url, configuration(data_dir, sqlite_url, auth=stronger)) as server:
        await server.cookie_of()
        [row] = await server.services.store.fetch("SELECT password_hash FROM users WHERE live_email = ?", (ADMIN_EMAIL,))
        assert "m=16," in row["password_hash"]
        await server.cookie_of()


PROXY = ProxyHeader(enabled=True, import_idp_groups=True, blacklisted_sso_groups=("secret",))
WHO = {"X-Doubleword-User": "ext-1", "X-Doubleword-Email": "Ada@example.com", "X-Doubleword-SSO-Provider": "okta"}


def _behind_proxy(data_dir: Path, url: str, trusted: str = "127.0.0.1", **changes: object) -> object:
    header = ProxyHeader(**({name: getattr(PROXY, name) for name in PROXY.__struct_fields__} | changes))
    return configuration(data_dir, url, auth=Auth(native=Native(password=QUICK), proxy_header=header), trusted_proxies=(trusted,))


async def test_proxy_makes_and_knows_its_users(database_url: str, data_dir: Path) -> None:
    async with serving(database_url, _behind_proxy(data_dir, database_url)) as server:  # type: ignore[arg-type]
        first = await server.ask("GET", CURRENT, headers=WHO | {"X-Doubleword-User-Groups": "crew, secret,pilots"})
        assert (first.status, first.body["email"], first.body["auth_source"]) == (200, "Ada@example.com", "proxy-header")
        assert first.body["external_user_id"] == "ext-1"
        again = await server.ask("GET", f"{CURRENT}?include=groups", headers=WHO | {"X-Doubleword-User-Groups": "crew,pilots"})
        assert again.body["id"] == first.body["id"]
        assert [(group["name"], group["source"]) for group in again.body["groups"]] == [
            ("crew", "okta"),
            ("pilots", "okta"),
            ("Everyone", "native"),
        ]
        native = (await server.admin("POST", "/groups", json={"name": "native"})).body["id"]
        await server.admin("POST", f"/groups/{native}/users/{first.body['id']}")
        fewer = await server.ask("GET", f"{CURRENT}?include=groups", headers=WHO | {"X-Doubleword-User-Groups": "pilots,native"})
        assert [group["name"] for group in fewer.body["groups"]] == ["native", "pilots", "Everyone"]
        # Signed in by something that the browser brings along, so other sites are kept out.
        refused = await server.ask("PATCH", CURRENT, headers=WHO | {"Origin": OTHER}, json={"display_name": "x"})
        assert refused.status == 403
        assert (await server.ask("GET", "/ai/v1/models", headers=WHO)).status == 401
        await server.admin("DELETE", f"/users/{first.body['id']}")
        fresh = await server.ask("GET", CURRENT, headers=WHO)
        assert fresh.status == 200
        assert fresh.body["id"] != first.body["id"]


async def test_a_proxy_fills_its_own_groups_alone(database_url: str, data_dir: Path) -> None:
    async with serving(database_url, _behind_proxy(data_dir, database_url)) as server:  # type: ignore[arg-type]
        await server.admin("POST", "/groups", json={"name": "ours"})
        for _ in range(3):
            answer = await server.ask("GET", f"{CURRENT}?include=groups", headers=WHO | {"X-Doubleword-User-Groups": "ours,Everyone"})
            assert [group["name"] for group in answer.body["groups"]] == ["Everyone"]
        assert await server.audit("users.groups") == []
        posing = WHO | {"X-Doubleword-User-Groups": "ours", "X-Doubleword-SSO-Provider": "native"}
        answer = await server.ask("GET", f"{CURRENT}?include=groups", headers=posing)
        assert [group["name"] for group in answer.body["groups"]] == ["Everyone"]
        assert (await server.ask("GET", CURRENT, headers=WHO | {"X-Doubleword-SSO-Provider": "x" * 65})).status == 401


async def test_proxy_links_an_account_by_address(database_url: str, data_dir: Path) -> None:
    async with serving(database_url, _behind_proxy(data_dir, database_url)) as server:  # type: ignore[arg-type]
        user_id = await server.person("RequestViewer", name="ada")
        answer = await server.ask("GET", CURRENT, headers=WHO)
        assert (answer.body["id"], answer.body["roles"]) == (user_id, ["StandardUser", "RequestViewer"])
        # Once linked, the address alone does not open it to another id.
        other = await server.ask("GET", CURRENT, headers=WHO | {"X-Doubleword-User": "ext-2"})
        assert other.status == 401


async def test_forged_proxy_headers_are_ignored(sqlite_url: str, data_dir: Path) -> None:
    forged = {"X-Doubleword-User": ADMIN_EMAIL, "X-Doubleword-Email": ADMIN_EMAIL, "X-Forwarded-For": "10.0.0.1"}
    async with serving(sqlite_url, _behind_proxy(data_dir, sqlite_url, trusted="10.0.0.0/8")) as server:  # type: ignore[arg-type]
        assert (await server.ask("GET", CURRENT, headers=forged)).status == 401
        await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD, **forged)
        assert (await server.audit("sessions.create"))[0]["client_ip"] == "127.0.0.1"
    off = configuration(data_dir, sqlite_url, trusted_proxies=("127.0.0.1",))
    async with serving(sqlite_url, off) as server:
        assert (await server.ask("GET", CURRENT, headers=forged)).status == 401


async def test_what_dwctl_itself_sends_is_signed_in_by_nobody(sqlite_url: str, data_dir: Path) -> None:
    """An endpoint may lie at dwctl's own address, which is one that a proxy on the same machine has, too."""
    async with serving(sqlite_url, _behind_proxy(data_dir, sqlite_url)) as server:  # type: ignore[arg-type]
        posing = {"X-Doubleword-User": ADMIN_EMAIL}
        assert (await server.ask("GET", CURRENT, headers=posing)).body["is_admin"] is True

        url = URL(server.url + CURRENT)
        answer = await server.services.outbound.send(pool="p", method="GET", url=url, headers=posing, body=None, connect_timeout=5)
        assert answer.status == 401
        for passed_on in ({"Via": "1.1 edge, 1.1 DWCTL"}, [("Via", "1.1 dwctl"), ("Via", "1.1 edge")]):
            headers = CIMultiDict(posing)
            headers.extend(passed_on)
            assert (await server.client.get(server.url + CURRENT, headers=headers)).status == 401
        assert (await server.ask("GET", CURRENT, headers=posing | {"Via": "1.1 edge"})).status == 200, "of a proxy that says that it is one"

        manager = await server.key_of(await server.person("PlatformManager"))
        header = {"auth_header_name": "x-doubleword-user", "auth_header_prefix": "", "api_key": ADMIN_EMAIL}
        own = {"url": f"{server.url}/admin/api/v1", **header}
        for path, body in (("", {"name": "own", "skip_fetch": True, "model_filter": ["zz"]}), ("/validate", {"type": "new"})):
            refused = await server.ask("POST", f"/admin/api/v1/endpoints{path}", secret=manager, json=own | body)
            assert (refused.status, refused.param) == (400, "auth_header_name")


@pytest.mark.parametrize("name", ["X-Doubleword-User", "X-Doubleword-Email", "X-Doubleword-SSO-Provider", "X-Doubleword-User-Groups"])
async def test_a_sign_in_header_that_comes_twice_is_nobodys(sqlite_url: str, data_dir: Path, name: str) -> None:
    """A proxy that adds its header beside the client's own leaves open who wrote which."""
    async with serving(sqlite_url, _behind_proxy(data_dir, sqlite_url)) as server:  # type: ignore[arg-type]
        headers = CIMultiDict(WHO | {"X-Doubleword-User-Groups": "a", "X-Doubleword-SSO-Provider": "okta"})
        assert (await server.client.get(server.url + CURRENT, headers=headers)).status == 200
        headers.add(name, headers[name])
        assert (await server.client.get(server.url + CURRENT, headers=headers)).status == 401


async def test_what_somebody_registered_is_no_proxy_users(database_url: str, data_dir: Path) -> None:
    """Nobody checks that an address is theirs who registers, and they go on knowing the password."""
    native = Native(password=QUICK, allow_registration=True)
    auth = Auth(native=native, proxy_header=ProxyHeader(enabled=True))
    config = configuration(data_dir, database_url, auth=auth, trusted_proxies=("127.0.0.1",))
    async with serving(database_url, config) as server:

        async def register(username: str, email: str) -> str:
            body = {"username": username, "email": email, "password": "a long password"}
            answer = await server.ask("POST", "/authentication/register", json=body)
            assert answer.status == 201, answer
            return str(answer.body["user"]["id"])

        posing = await register("mallory", "ada@example.com")
        assert (await server.ask("GET", CURRENT, headers=WHO)).status == 401
        assert (await server.admin("GET", f"/users/{posing}")).body["external_user_id"] is None
        assert (await server.admin("DELETE", f"/users/{posing}")).status == 204
        # A username is anybody's to choose, and keeps nobody out whose address it is.
        await register("Ada@example.com", "mallory@example.com")
        ada = await server.ask("GET", CURRENT, headers=WHO)
        assert (ada.status, ada.body["email"], ada.body["external_user_id"]) == (200, "Ada@example.com", "ext-1")
        assert ada.body["username"].startswith("Ada@example.com-")
        assert (await server.ask("GET", CURRENT, headers=WHO)).body["id"] == ada.body["id"]


async def test_whom_an_administrator_gave_a_password_comes_through_the_proxy_too(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, _behind_proxy(data_dir, sqlite_url)) as server:  # type: ignore[arg-type]
        made = await create_user(server.services, SYSTEM, UserCreate(username="ada", email="ada@example.com"), password="a first password")
        assert (await server.ask("GET", CURRENT, headers=WHO)).body["id"] == made.id


async def test_unknown_proxy_user_without_accounts_for_all(sqlite_url: str, data_dir: Path) -> None:
    async with serving(sqlite_url, _behind_proxy(data_dir, sqlite_url, auto_create_users=False)) as server:  # type: ignore[arg-type]
        assert (await server.ask("GET", CURRENT, headers=WHO)).status == 401
        await server.person(name="ada")
        assert (await server.ask("GET", CURRENT, headers=WHO)).status == 200


@pytest.mark.parametrize("user", ["", "a" * 300])
async def test_unusable_proxy_ids_are_nobody(sqlite_url: str, data_dir: Path, user: str) -> None:
    async with serving(sqlite_url, _behind_proxy(data_dir, sqlite_url)) as server:  # type: ignore[arg-type]
        assert (await server.ask("GET", CURRENT, headers=WHO | {"X-Doubleword-User": user})).status == 401


async def test_client_address_is_the_last_that_is_not_a_proxy(sqlite_url: str, data_dir: Path) -> None:
    config = configuration(data_dir, sqlite_url, trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    async with serving(sqlite_url, config) as server:
        for forwarded, seen in (
            ("203.0.113.9", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("203.0.113.9:5000", "203.0.113.9"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("garbage", "127.0.0.1"),
            ("garbage, 10.1.1.1", "10.1.1.1"),
            ("", "127.0.0.1"),
        ):
            await server.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD, **{"X-Forwarded-For": forwarded})
            assert (await server.audit("sessions.create"))[0]["client_ip"] == seen
