"""A forgotten password by way of a real SMTP server: from the form to the new password, and what nobody learns when mail fails."""

import http.client
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.appliance import ADMIN_EMAIL, Appliance, free_port, until
from tests.browser.conftest import give_passwords
from tests.certificates import self_signed
from tests.postbox import NAME, Postbox, postbox
from tests.postbox import PASSWORD as MAIL_PASSWORD

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

NEW_PASSWORD = "a new password of their own"
PEOPLE = [f"user{number}@example.com" for number in range(16)]
"""More than the machine has threads for."""

Start = Callable[..., Appliance]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server that hands its mail to a port."""
    started: list[Appliance] = []

    def start(port: int, variables: dict[str, str] | None = None, **settings: Any) -> Appliance:
        email = {"type": "smtp", "host": "127.0.0.1", "port": port, "use_tls": False, **settings}
        quick = {"native": {"password": {"argon2_memory_kib": 8, "argon2_iterations": 1}}}
        appliance = Appliance(
            tmp_path / "server",
            settings={"email": email, "auth": quick, "dashboard_url": "https://gateway.example"},
            variables=variables,
        )
        started.append(appliance)
        appliance.apply({"users": [{"email": email} for email in PEOPLE]})
        appliance.start()
        give_passwords(appliance)
        return appliance

    yield start
    for appliance in started:
        appliance.close()


def submit(appliance: Appliance, path: str, **fields: str) -> tuple[int, str]:
    """Open the form of a page, fill it in and send it; status and page."""
    connection = http.client.HTTPConnection("127.0.0.1", appliance.port, timeout=10)
    connection.request("GET", path)
    page = connection.getresponse()
    cookie = str(page.headers["set-cookie"]).split(";")[0]
    token = re.search(r'name="_csrf" value="([^"]+)"', page.read().decode())
    assert token is not None
    headers = {"content-type": "application/x-www-form-urlencoded", "cookie": cookie}
    connection.request("POST", path.partition("?")[0], urlencode({"_csrf": token.group(1), **fields}), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def ask(appliance: Appliance, email: str) -> str:
    """Ask for a link; what the page says, without the address and what is new in every answer."""
    status, page = submit(appliance, "/forgot", email=email)
    assert status == 200
    assert "If <strong>" in page
    return re.sub(r'name="_csrf" value="[^"]+"', "", page.replace(email, "..."))


def signs_in(appliance: Appliance, email: str, password: str) -> bool:
    status, _ = submit(appliance, "/login", email=email, password=password)
    return status == 303


def not_sent(appliance: Appliance) -> str:
    """What the log says of the mail that was not sent."""
    [entry] = until(lambda: appliance.events("mail.password_reset_not_sent"), 10, "the failure is in the log")
    return str(entry["reason"])


def check_log(appliance: Appliance, *secrets: str) -> None:
    log = appliance.log.read_text()
    assert "Traceback" not in log
    for secret in (MAIL_PASSWORD, "/reset?link=", *secrets):
        assert secret not in log


def whole_way(appliance: Appliance, box: Postbox) -> None:
    assert ask(appliance, "nobody@example.com") == ask(appliance, ADMIN_EMAIL)
    [message] = until(lambda: list(box.messages), 10, "the mail has come")
    assert message["To"] == ADMIN_EMAIL
    found = re.search(r"https://gateway\.example/reset\?link=(\S+)", message.get_content())
    assert found is not None
    token = found.group(1)
    fields = {"link": token, "new_password": NEW_PASSWORD, "repeated_password": NEW_PASSWORD}
    status, _ = submit(appliance, f"/reset?link={token}", **fields)
    assert status == 303
    assert signs_in(appliance, ADMIN_EMAIL, NEW_PASSWORD)
    check_log(appliance, token, NEW_PASSWORD)


def test_from_the_form_to_the_new_password(start: Start) -> None:
    with postbox() as box:
        whole_way(start(box.port), box)
        assert box.encrypted == [False]


def test_encrypted_and_signed_in(start: Start, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with postbox(tls="starttls", certificate=certificate, known_senders=True) as box:
        whole_way(start(box.port, {"SSL_CERT_FILE": str(certificate)}, use_tls=True, username=NAME, password=MAIL_PASSWORD), box)
        assert box.encrypted == [True]


def test_a_server_that_is_down(start: Start) -> None:
    appliance = start(free_port())
    assert ask(appliance, "nobody@example.com") == ask(appliance, ADMIN_EMAIL)
    assert "ConnectionRefusedError" in not_sent(appliance)
    check_log(appliance)


def test_a_server_that_refuses_the_recipient_or_repeats_the_message(start: Start) -> None:
    with postbox() as box:
        appliance = start(box.port)
        box.refuse = "550 5.1.1 no such mailbox"
        assert ask(appliance, "nobody@example.com") == ask(appliance, ADMIN_EMAIL)
        assert "no such mailbox" in not_sent(appliance)
        box.refuse, box.reject = None, "554 5.7.1 looks like spam: {}"
        ask(appliance, PEOPLE[0])
        until(lambda: len(appliance.events("mail.password_reset_not_sent")) == 2, 10, "the second failure is in the log")
        check_log(appliance)
        box.reject = None
        whole_way(appliance, box)


def test_a_slow_server_holds_up_nobody(start: Start) -> None:
    with postbox() as box:
        appliance = start(box.port)
        box.awake.clear()
        assert len({ask(appliance, email) for email in ("nobody@example.com", *PEOPLE)}) == 1
        until(lambda: box.waiting, 10, "the mail server keeps somebody waiting")
        begun = time.monotonic()
        assert not signs_in(appliance, ADMIN_EMAIL, "not the password")
        assert time.monotonic() - begun < 5, "passwords are checked meanwhile"
        assert box.messages == []
        box.awake.set()
        until(lambda: len(box.messages) == len(PEOPLE), 20, "every mail comes in the end")
        assert {message["To"] for message in box.messages} == set(PEOPLE)
        check_log(appliance)


def test_a_server_ends_while_mail_waits(start: Start) -> None:
    with postbox() as box:
        appliance = start(box.port)
        box.awake.clear()
        for email in PEOPLE:
            ask(appliance, email)
        until(lambda: box.waiting, 10, "the mail server keeps somebody waiting")
        assert appliance.process is not None
        appliance.process.terminate()
        until(lambda: appliance.events("stopped"), 10, "everything else has ended")
        box.awake.set()
        assert appliance.process.wait(10) == 0
        appliance.process = None
        check_log(appliance)
