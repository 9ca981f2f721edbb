"""Users, groups and access: forms with mistakes, two administrators, deleting with counted consequences, and access that is explained."""

import re
import uuid

from playwright.sync_api import expect

from tests.appliance import ADMIN_EMAIL, USER
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, email_of, found


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def create_user(window: Watched, email: str) -> str:
    """A new user's id; the window then shows the password once."""
    window.open("/admin/users/new")
    window.page.get_by_label("E-mail address").fill(email)
    window.page.get_by_role("button", name="Create user").click()
    window.page.get_by_role("heading", name=f"{email} is created").wait_for()
    return str(window.page.get_by_role("link", name="Give them groups").get_attribute("href")).rsplit("/", 1)[1]


def create_group(window: Watched, name: str) -> str:
    window.open("/admin/groups/new")
    window.page.get_by_label("Name").fill(name)
    window.page.get_by_role("button", name="Create group").click()
    window.page.get_by_role("heading", name=name, level=1).wait_for()
    return window.page.url.rsplit("/", 1)[1]


def test_an_invited_user_signs_in_with_a_password_that_is_shown_once(site: Site, admin: Watched, watch: Watch) -> None:
    email = f"{fresh('new')}@example.com"
    create_user(admin, email)
    password = admin.page.get_by_label("Password").input_value()
    assert password in admin.page.locator(".snippet code").inner_text()
    assert password not in admin.page.url
    admin.page.reload()
    admin.page.get_by_role("heading", name=email).wait_for()
    assert password not in admin.page.content()
    guest = watch()
    guest.sign_in(email, password)
    guest.open("/")
    guest.page.wait_for_url("**/password")


def test_a_password_that_is_reset_ends_the_old_one(site: Site, admin: Watched, watch: Watch) -> None:
    email = f"{fresh('reset')}@example.com"
    user_id = create_user(admin, email)
    old = admin.page.get_by_label("Password").input_value()
    admin.open(f"/admin/users/{user_id}")
    admin.page.get_by_role("button", name="Reset password").click()
    fresh_one = admin.page.get_by_label("Password").input_value()
    guest = watch()
    guest.expect(422)
    guest.open("/login")
    for password in (old, fresh_one):
        guest.page.get_by_label("E-mail address").fill(email)
        guest.page.get_by_label("Password", exact=True).fill(password)
        guest.page.get_by_role("button", name="Sign in").click()
        if password == old:
            guest.page.get_by_text("Invalid email or password").wait_for()
    guest.page.wait_for_url("**/password")


def test_mistakes_in_the_form_of_a_user_are_told_beside_the_fields(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.expect(409, 422)
    evil = '<img src=x onerror="window.hit=1">'
    for fields, wrong, sentence in (
        ({"email": "no address"}, "email", "e-mail address"),
        ({"email": "a@example.com", "display_name": "n" * 300}, "display_name", "at most 255"),
        ({"email": ADMIN_EMAIL.upper(), "display_name": evil}, "email", "already exists"),
        ({"email": f"{fresh('x')}@example.com", "username": USER}, "username", "already taken"),
        ({"email": f"{fresh('x')}@example.com", "way": "typed"}, "password", "Write a password"),
        ({"email": f"{fresh('x')}@example.com", "way": "typed", "password": "short"}, "password", "at least"),
    ):
        admin.open("/admin/users/new")
        page.evaluate(
            "() => document.querySelectorAll('main input').forEach(field => { field.removeAttribute('maxlength');"
            " field.type = field.type === 'email' ? 'text' : field.type; })"
        )
        for name, value in fields.items():
            if name == "way":
                page.locator(f"[name=way][value={value}]").check()
            else:
                page.locator(f"#f-{name}").fill(value)
        page.get_by_role("button", name="Create user").click()
        error = page.locator(f"#e-{wrong}")
        error.wait_for()
        assert sentence in error.inner_text(), fields
        assert page.locator(f"#f-{wrong}").get_attribute("aria-invalid") == "true"
        expect(page.locator(f"#f-{wrong}")).to_be_focused()
        for name, value in fields.items():
            if name not in ("way", "password"):
                assert page.locator(f"#f-{name}").input_value() == value
    assert page.evaluate("window.hit") is None
    assert page.request.get(f"{site.url}/admin/api/v1/users?search=no%20address").json()["total_count"] == 0


def test_the_second_of_two_administrators_is_told_and_loses_nothing(site: Site, admin: Watched, watch: Watch) -> None:
    user_id = create_user(admin, f"{fresh('two')}@example.com")
    other = watch()
    other.sign_in(email_of("PlatformManager"), PASSWORD)
    for window in (admin, other):
        window.open(f"/admin/users/{user_id}")
    admin.page.get_by_label("Request viewer").check()
    admin.page.get_by_role("button", name="Save", exact=True).click()
    admin.page.get_by_text("is saved.").wait_for()
    other.expect(409)
    other.page.locator("#f-display_name").fill("Typed meanwhile")
    other.page.get_by_label("Billing manager").check()
    other.page.get_by_role("button", name="Save", exact=True).click()
    other.page.get_by_text("Somebody else has changed this in the meantime").wait_for()
    assert other.page.locator("#f-display_name").input_value() == "Typed meanwhile"
    assert other.page.get_by_label("Billing manager").is_checked()
    assert "Request viewer" in other.page.get_by_text("Stored now").last.inner_text()
    other.page.get_by_label("Request viewer").check()
    other.page.get_by_role("button", name="Save", exact=True).click()
    other.page.get_by_text("is saved.").wait_for()
    user = admin.page.request.get(f"{site.url}/admin/api/v1/users/{user_id}").json()
    assert set(user["roles"]) == {"StandardUser", "RequestViewer", "BillingManager"}
    assert user["display_name"] == "Typed meanwhile"


def test_groups_given_on_the_users_page_and_on_the_groups_page_are_one_thing(site: Site, admin: Watched, watch: Watch) -> None:
    page, name = admin.page, fresh("team")
    group_id = create_group(admin, name)
    email = f"{fresh('member')}@example.com"
    user_id = create_user(admin, email)
    admin.open(f"/admin/users/{user_id}")
    stale = watch()
    stale.sign_in()
    stale.open(f"/admin/users/{user_id}")
    page.get_by_role("group", name="Member of").get_by_label(name).check()
    page.get_by_role("button", name="Save groups").click()
    page.get_by_text("The groups are saved").wait_for()
    admin.open(f"/admin/groups/{group_id}")
    page.get_by_role("row", name=email).get_by_role("button", name="Remove").click()
    page.get_by_text("is no longer a member").wait_for()
    page.get_by_label("E-mail address").fill("nobody@example.com")
    admin.expect(422)
    page.get_by_role("button", name="Add member").click()
    page.get_by_text("No account has this e-mail address.").wait_for()
    assert page.get_by_label("E-mail address").input_value() == "nobody@example.com"
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Add member").click()
    page.get_by_text("is a member.").wait_for()
    # A membership changed elsewhere counts as a change of the user.
    stale.expect(409)
    stale.page.get_by_role("button", name="Save groups").click()
    stale.page.get_by_text("Somebody else has changed this in the meantime").wait_for()


def test_a_groups_name_is_its_own_and_everyone_is_protected(site: Site, admin: Watched) -> None:
    page, name = admin.page, fresh("=SUM(A1) group")
    group_id = create_group(admin, name)
    admin.expect(409)
    admin.open("/admin/groups/new")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Description").fill("kept")
    page.get_by_role("button", name="Create group").click()
    page.locator("#e-name").get_by_text("already exists").wait_for()
    assert page.get_by_label("Description").input_value() == "kept"
    everyone = "00000000-0000-0000-0000-000000000000"
    admin.open(f"/admin/groups/{everyone}")
    assert page.get_by_role("link", name="Delete group").count() == 0
    assert page.get_by_role("button", name="Add member").count() == 0
    token = page.locator("input[name=_csrf]").first.get_attribute("value") or ""
    for path, fields in (
        (f"/admin/groups/{everyone}", {"name": "Mine", "revision": "1"}),
        (f"/admin/groups/{everyone}/delete", {"confirm": "Everyone"}),
    ):
        answer = page.request.post(site.url + path, form={"_csrf": token, **fields}, headers={"accept": "text/html"})
        assert answer.status == 403, path
    assert page.request.get(f"{site.url}/admin/api/v1/groups/{everyone}").json()["name"] == "Everyone"
    assert page.request.get(f"{site.url}/admin/api/v1/groups/{group_id}").json()["name"] == name


def test_deleting_counts_what_goes_with_it_and_wants_the_name(site: Site, admin: Watched) -> None:
    page, name = admin.page, fresh("doomed")
    group_id = create_group(admin, name)
    page.get_by_label("E-mail address").fill(USER)
    page.get_by_role("button", name="Add member").click()
    page.get_by_label("Model", exact=True).select_option(label="chat")
    page.get_by_role("button", name="Add model").click()
    page.get_by_role("link", name="Delete group").click()
    said = page.locator(".consequences").inner_text()
    assert "1 user loses" in said
    assert "1 model is" in said
    assert page.evaluate("document.activeElement.textContent") == "Cancel"
    admin.expect(422)
    page.get_by_label(f"Type {name} to confirm").fill("something else")
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("This is not the name.").wait_for()
    page.get_by_label(f"Type {name} to confirm").fill(name)
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/admin/groups")
    page.get_by_text(f"{name} is deleted.").wait_for()
    assert page.request.get(f"{site.url}/admin/api/v1/groups/{group_id}").status == 404


def test_a_cell_of_the_table_is_set_at_once_with_scripts_and_by_a_button_without(site: Site, watch: Watch) -> None:
    window = watch()
    window.sign_in()
    name = fresh("cells")
    group_id = create_group(window, name)
    model_id = found(site, "models?search=failing", "alias", "failing")

    def granted() -> bool:
        groups = window.page.request.get(f"{site.url}/admin/api/v1/models/{model_id}?include=groups").json()["groups"]
        return group_id in [group["id"] for group in groups]

    for scripts in (True, False):
        one = window if scripts else watch(scripts=False)
        if not scripts:
            one.sign_in()
        one.open("/admin/access")
        box = one.page.get_by_label(f"{name} may call failing")
        if scripts:
            with one.page.expect_response(
                lambda answer: answer.request.method == "POST" and answer.url.endswith("/admin/access")
            ) as answer:
                box.click()
            assert answer.value.status == 200
            expect(one.page.locator(f"input[name=before][value='{group_id}:{model_id}']")).to_have_count(1)
            assert granted()
        else:
            box.uncheck()
            one.page.get_by_role("button", name="Save").click()
            one.page.get_by_text("1 change is saved.").wait_for()
            assert not granted()


def test_a_tick_that_is_not_saved_is_taken_back_and_the_page_says_why(site: Site, admin: Watched) -> None:
    page, name = admin.page, fresh("unsaved")
    stays, goes = f"{name} stays", f"{name} goes"
    _, gone = create_group(admin, stays), create_group(admin, goes)
    admin.open(f"/admin/access?q=fail&group={name}")
    box, toasts = page.get_by_label(f"{stays} may call failing"), page.locator("#toasts")
    page.route("**/admin/access*", lambda route: route.abort("connectionrefused"))
    box.click()
    expect(toasts).to_contain_text("The server does not answer")
    expect(box).not_to_be_checked()
    page.unroute("**/admin/access*")
    box.click()
    expect(page.locator("#matrix input[name=before]")).to_have_count(1)
    expect(toasts).to_have_text("")
    admin.forgive("ERR_CONNECTION_REFUSED", "htmx:error")
    # The server answers, and refuses.
    admin.expect(422)
    assert page.request.delete(f"{site.url}/admin/api/v1/groups/{gone}").ok
    page.get_by_label(f"{goes} may call failing").click()
    expect(page.locator("#matrix").get_by_role("alert")).to_contain_text(gone)
    assert page.locator("#matrix thead th").all_inner_texts() == ["Model", stays]
    assert page.locator("#matrix tbody th").all_inner_texts() == ["failing"]
    expect(box).to_be_checked()


def test_what_somebody_else_ticked_meanwhile_stays(site: Site, admin: Watched) -> None:
    group_id, other_id = create_group(admin, fresh("mine")), create_group(admin, fresh("theirs"))
    model_id = found(site, "models?search=failing", "alias", "failing")
    token = admin.page.locator("input[name=_csrf]").first.get_attribute("value") or ""
    admin.page.request.post(f"{site.url}/admin/access", form={"_csrf": token, "granted": f"{other_id}:{model_id}"})
    # A table that was opened before that: it shows neither as granted.
    admin.page.request.post(f"{site.url}/admin/access", form={"_csrf": token, "granted": f"{group_id}:{model_id}"})
    groups = admin.page.request.get(f"{site.url}/admin/api/v1/models/{model_id}?include=groups").json()["groups"]
    assert {group_id, other_id} <= {group["id"] for group in groups}


def test_access_is_explained_and_mended(site: Site, admin: Watched, watch: Watch) -> None:
    page, name = admin.page, fresh("needed")
    model_id = found(site, "models?search=failing", "alias", "failing")
    group_id = create_group(admin, name)
    email = email_of("ConnectionsUser")
    token = page.locator("input[name=_csrf]").first.get_attribute("value") or ""
    everyone = "00000000-0000-0000-0000-000000000000"
    form = {"_csrf": token, "before": f"{everyone}:{model_id}", "granted": f"{group_id}:{model_id}"}
    page.request.post(f"{site.url}/admin/access", form=form)
    try:
        guest = watch()
        guest.sign_in(email, PASSWORD)
        admin.open(f"/admin/access/explain?user={email}&model=failing")
        assert page.locator("main .badge.danger").inner_text().endswith("No")
        assert f"'{name}'" in page.locator("main").inner_text()
        page.get_by_role("button", name=f"Add to {name}").click()
        page.locator("main .badge.ok", has_text="Yes").wait_for()
        assert name in page.locator(".paths").inner_text()
        listed = guest.page.request.get(f"{site.url}/admin/api/v1/models?limit=100").json()["data"]
        assert "failing" in [model["alias"] for model in listed]
    finally:
        page.request.post(f"{site.url}/admin/access", form={"_csrf": token, "granted": f"{everyone}:{model_id}"})
    admin.open("/admin/access/explain?user=nobody@example.com&model=nothing")
    assert page.locator("#e-user").inner_text() == "No account has this e-mail address."
    assert page.locator("#e-model").inner_text() == "There is no model of this name."


def test_lists_are_found_paged_and_filtered_without_scripts(site: Site, watch: Watch) -> None:
    window = watch(scripts=False)
    window.sign_in()
    page = window.page
    window.open("/admin/users")
    page.get_by_label("Search users").fill("requestviewer")
    page.get_by_role("button", name="Apply").click()
    assert re.search(r"/admin/users\?q=requestviewer", page.url)
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("link", name=email_of("RequestViewer")).click()
    assert page.get_by_label("Request viewer").is_checked()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("is saved.").wait_for()


def test_a_session_that_ends_while_somebody_types_leads_back_to_what_was_typed(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.open("/admin/groups/new")
    page.get_by_label("Name").fill("Typed before the end")
    page.context.clear_cookies()
    page.get_by_role("button", name="Create group").click()
    page.wait_for_url("**/login?**")
    page.get_by_label("E-mail address").fill(ADMIN_EMAIL)
    page.get_by_label("Password", exact=True).fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin/groups/new**")
    assert page.get_by_label("Name").input_value() == "Typed before the end"
    assert page.request.get(f"{site.url}/admin/api/v1/groups?search=Typed%20before").json()["total_count"] == 0
