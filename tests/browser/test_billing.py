"""Credits given and taken: exact, once a form, only by whoever may; the list, its running balance, and its CSV."""

import csv
import io
from decimal import Decimal

from playwright.sync_api import expect

from tests.appliance import USER
from tests.browser.conftest import PASSWORD, Site, Watch, Watched, email_of, logged
from tests.browser.test_people import create_user, fresh


def account(window: Watched) -> str:
    """A new account's e-mail address; the window then shows its billing."""
    email = f"{fresh('account')}@example.com"
    create_user(window, email)
    window.open(f"/billing?account={email}")
    return email


def book(window: Watched, amount: str, reason: str, kind: str = "Give") -> None:
    form = window.page.get_by_role("form", name="Give or take credits")
    form.get_by_label("What").select_option(label=kind)
    form.get_by_label("Amount").fill(amount)
    form.get_by_label("Reason").fill(reason)
    form.get_by_role("button", name="Book").click()


def balance(window: Watched) -> str:
    return str(window.page.locator(".tile", has_text="Balance").locator("data").first.get_attribute("value"))


def rows_of(window: Watched, query: str) -> list[dict[str, str]]:
    answer = window.page.request.get(f"{window.url}/billing.csv?{query}")
    assert answer.status == 200
    return list(csv.DictReader(io.StringIO(answer.text(), newline="")))


def test_amounts_are_exact_to_the_nano_and_the_balance_runs(site: Site, admin: Watched) -> None:
    email = account(admin)
    booked = (("10.000000001", "first", "Give"), ("0.000000002", "second", "Take"), ("3", "third", "Take"))
    for amount, reason, kind in booked:
        book(admin, amount, reason, kind)
        admin.page.locator("tbody tr").first.get_by_text(reason).wait_for()
    assert balance(admin) == "6.999999999"
    shown = [row.locator("data").all() for row in admin.page.locator("tbody tr").all()]
    assert [[cell.get_attribute("value") for cell in cells] for cells in shown] == [
        ["-3", "6.999999999"],
        ["-0.000000002", "9.999999999"],
        ["10.000000001", "10.000000001"],
    ]
    rows = rows_of(admin, f"account={email}")
    assert [Decimal(row["balance"]) for row in rows] == [Decimal("6.999999999"), Decimal("9.999999999"), Decimal("10.000000001")]
    assert sum(Decimal(row["amount"]) for row in rows) == Decimal("6.999999999")


def test_a_form_that_is_sent_twice_books_once(site: Site, admin: Watched, watch: Watch) -> None:
    email = account(admin)
    fields = {
        name: admin.page.locator(f"form[method=post][action='/billing'] [name={name}]").input_value()
        for name in ("_csrf", "account", "user", "source")
    }
    form = {**fields, "kind": "admin_grant", "amount": "5", "reason": "once"}
    answers = [admin.page.request.post(f"{site.url}/billing", form=form, headers={"accept": "text/html"}) for _ in range(2)]
    assert "nothing was booked a second time" in answers[1].text()
    admin.open(f"/billing?account={email}")
    assert balance(admin) == "5"


def test_mistakes_are_told_beside_the_fields_and_nothing_is_booked(site: Site, admin: Watched) -> None:
    admin.expect(422)
    account(admin)
    page = admin.page
    for amount, reason, wrong, sentence in (
        ("abc", "why", "amount", "Write a number"),
        ("-1", "why", "amount", "greater than zero"),
        ("0", "why", "amount", "greater than zero"),
        ("NaN", "why", "amount", "not a decimal number"),
        ("0.0000000001", "why", "amount", "finer than one nano-credit"),
        ("1e30", "why", "amount", "too large"),
        ("1", "r" * 300, "reason", "at most 255"),
        ("1", "   ", "reason", "Fill this in"),
    ):
        page.evaluate("() => document.querySelector('#f-reason').removeAttribute('maxlength')")
        book(admin, amount, reason)
        error = page.locator(f"#e-{wrong}")
        error.wait_for()
        assert sentence in error.inner_text(), amount
        assert page.locator("#f-amount").input_value() == amount
        expect(page.locator(f"#f-{wrong}")).to_be_focused()
        assert balance(admin) == "0"
    page.locator("#f-amount").fill("2")
    page.locator("#f-reason").fill("mended")
    page.get_by_role("button", name="Book").click()
    page.locator("tbody tr").first.get_by_text("mended").wait_for()
    assert balance(admin) == "2"


def test_texts_that_look_like_formulas_come_out_of_the_csv_as_texts(site: Site, admin: Watched) -> None:
    email = account(admin)
    reasons = ["=1+1", '+SUM("A1")', "-2", "@cmd", 'say "hi", you', "emoji 🎉", "<b>bold</b>"]
    for reason in reasons:
        book(admin, "1", reason)
        admin.page.locator("tbody tr").first.get_by_text(reason, exact=False).wait_for()
    rows = rows_of(admin, f"account={email}")
    read = [row["reason"] for row in reversed(rows)]
    assert [text.removeprefix("'") for text in read] == reasons
    assert not [text for text in read if text.startswith(("=", "+", "-", "@"))]
    assert admin.page.locator("tbody b").count() == 0


def test_filters_are_in_the_address_and_leave_out_the_running_balance(site: Site, watch: Watch) -> None:
    for scripts in (True, False):
        window = watch(scripts=scripts)
        window.sign_in()
        window.open(f"/billing?account={USER}")
        page = window.page
        assert page.get_by_role("columnheader", name="Balance").count() == 1
        page.get_by_label("Type").select_option("admin_grant")
        if not scripts:
            page.get_by_role("button", name="Apply").click()
        page.get_by_text("The running balance is shown when").wait_for()
        assert "kind=admin_grant" in page.url
        assert page.get_by_role("columnheader", name="Balance").count() == 0
        assert set(page.locator("tbody td:nth-child(2)").all_inner_texts()) == {"Grant"}
        assert [row["type"] for row in rows_of(window, f"account={USER}&kind=admin_grant")] == ["admin_grant"]


def test_the_account_of_somebody_who_is_gone_is_opened_from_the_list(site: Site, admin: Watched) -> None:
    page = admin.page
    account(admin)
    user_id = page.locator("input[name=user]").input_value()
    book(admin, "7", "before")
    page.locator("tbody tr").first.get_by_text("before").wait_for()
    admin.open(f"/admin/users/{user_id}/delete")
    page.get_by_label("to confirm").fill(str(page.locator("label strong").text_content()))
    page.get_by_role("button", name="Delete user").click()
    expect(page.get_by_role("status")).to_contain_text("is deleted")
    admin.open("/billing?account=all")
    page.locator("tbody tr", has_text="before").first.get_by_role("link").click()
    page.wait_for_url(f"**/billing?account={user_id}")
    assert balance(admin) == "7"
    assert page.get_by_role("button", name="Book").count() == 0
    page.get_by_label("Type").select_option("purchase")
    page.wait_for_url("**kind=purchase**")
    page.get_by_label("Type").select_option("admin_grant")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert [row["reason"] for row in rows_of(admin, f"account={user_id}")] == ["before"]


def test_a_charge_leads_to_its_request_where_that_may_be_read(site: Site, admin: Watched, watch: Watch) -> None:
    request_id = logged(site)
    manager, owner = watch(), watch()
    manager.sign_in(email_of("BillingManager"), PASSWORD)
    owner.sign_in(USER, PASSWORD)
    for window in (admin, owner, manager):
        window.open(f"/billing?account={USER}")
        row = window.page.locator("tbody tr", has=window.page.locator(f"a[href='/requests/{request_id}'], :text('{request_id}')"))
        expect(row).to_have_count(1)
        assert row.get_by_role("link").count() == (0 if window is manager else 1)


def test_nobody_sees_or_changes_others_money_without_the_right(site: Site, watch: Watch) -> None:
    window = watch()
    window.expect(403, 404)
    window.sign_in(email_of("StandardUser"), PASSWORD)
    window.open("/billing")
    assert window.page.get_by_role("button", name="Book").count() == 0
    for path in (f"/billing?account={USER}", "/billing?account=all"):
        answer = window.open(path)
        assert answer is not None
        assert answer.status == 403, path
    for path in (f"/billing.csv?account={USER}", "/billing.csv?account=all"):
        assert window.page.request.get(window.url + path, headers={"accept": "text/html"}).status == 403, path
    manager = watch()
    manager.expect(404)
    manager.sign_in(email_of("BillingManager"), PASSWORD)
    for path in ("/billing?account=all", f"/billing?account={USER}"):
        answer = manager.open(path)
        assert answer is not None
        assert answer.status == 200, path
    answer = manager.open("/billing?account=nobody@example.com")
    assert answer is not None
    assert answer.status == 404
