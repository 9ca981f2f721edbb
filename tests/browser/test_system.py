"""System: where each value of the configuration came from, with secrets hidden; the audit log; the licences of what is shipped."""

import csv
import io
import json

from tests.appliance import ADMIN_EMAIL, ADMIN_PASSWORD
from tests.browser.conftest import Site, Watch, Watched
from tests.browser.test_people import create_group, fresh


def test_every_value_says_where_it_came_from_and_secrets_are_hidden(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.open("/admin/system")
    assert ADMIN_PASSWORD not in page.content()

    def origin(key: str) -> list[str]:
        row = page.locator("tbody tr", has=page.locator(f"code[title='DWCTL_{key.upper().replace('.', '__')}']"))
        return [text.strip() for text in row.locator("td").all_inner_texts()[1:]]

    value, place = origin("port")
    assert value == str(site.appliance.port)
    assert "dwctl.yaml:" in place
    assert origin("admin_password")[0] == "(hidden)"
    assert origin("bodies.mode") == ["preview", "default"]
    page.get_by_label("Only what was set").check()
    page.wait_for_url("**changed=true**")
    page.locator("tbody tr", has_text="bodies.mode").wait_for(state="detached")
    assert origin("port")[0] == value


def test_the_state_is_that_of_this_node(site: Site, admin: Watched) -> None:
    admin.open("/admin/system/state")
    said = admin.page.locator("main").inner_text()
    node = (site.appliance.data_dir / "node_id").read_text().strip()
    for text in ("SQLite", node, str(site.appliance.data_dir / "dwctl.db"), "answers", "empty"):
        assert text in said


def test_an_act_is_in_the_audit_log_with_what_was_before_and_after(site: Site, admin: Watched) -> None:
    page, name = admin.page, fresh('=HYPERLINK("x")')
    group_id = create_group(admin, name)
    page.get_by_role("textbox", name="Name").fill(f"{name} renamed")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("is saved.").wait_for()
    admin.open(f"/admin/system/audit?id={group_id}")
    acts = page.locator("tbody tr")
    assert [row.locator("code").first.inner_text() for row in acts.all()] == ["groups.update", "groups.create"]
    assert acts.first.locator("del").inner_text() == name
    assert acts.first.locator("ins").inner_text() == f"{name} renamed"
    assert ADMIN_EMAIL in acts.first.inner_text()
    rows = list(csv.DictReader(io.StringIO(page.request.get(f"{site.url}/admin/system/audit.csv?id={group_id}").text(), newline="")))
    assert [row["action"] for row in rows] == ["groups.update", "groups.create"]
    assert json.loads(rows[0]["before"]) == {"name": name}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


def test_the_audit_log_is_filtered_without_scripts(site: Site, watch: Watch) -> None:
    window = watch(scripts=False)
    window.expect(422)
    window.sign_in()
    window.open("/admin/system/audit")
    window.page.get_by_label("Kind").select_option("session")
    window.page.get_by_role("button", name="Apply").click()
    assert {row.split(".")[0] for row in window.page.locator("tbody td:nth-child(3)").all_inner_texts()} == {"sessions"}
    for query, sentence in (("who=nobody@example.com", "No account has this e-mail address"), ("from=yesterday", "Write a day such as")):
        answer = window.open(f"/admin/system/audit?{query}")
        assert answer is not None
        assert answer.status == 422
        assert sentence in window.page.locator("main").inner_text()


def test_all_that_is_shipped_is_listed_with_its_licence(site: Site, admin: Watched) -> None:
    page = admin.page
    admin.open("/admin/system/licences")
    names = page.locator("tbody td:first-child").all_inner_texts()
    for name in ("sanic", "tortoise-orm", "htmx.org", "lucide-static", "gpt-tokenizer", "Python"):
        assert name in names
    assert "pytest" not in names
    assert all(text.strip() for text in page.locator("tbody td:nth-child(3)").all_inner_texts())
    page.get_by_role("link", name="htmx.org").click()
    assert "Permission to use, copy, modify" in page.locator(".snippet").inner_text()


def test_help_leads_to_the_documentation(site: Site, admin: Watched) -> None:
    for path in ("/admin/users", "/admin/groups", "/admin/access", "/billing", "/admin/system", "/"):
        admin.open(path)
        admin.page.get_by_role("link", name="Help").click()
        admin.page.locator("article.document").wait_for()
        assert admin.page.locator("h1").count() == 1
