"""Mail over SMTP, handed to a real server, in each way that the configuration offers, and what is said when it cannot be."""

import base64
import socket
from pathlib import Path
from typing import Any

import pytest

from dwctl.config.schema import Email
from dwctl.outbound import Mail, MailError
from dwctl.outbound.trust import trusting
from tests.appliance import free_port
from tests.certificates import self_signed
from tests.postbox import NAME, PASSWORD, Postbox, Tls, postbox

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

TO = "somebody@example.com"
SUBJECT = "Köln: a link"
TEXT = "Hello ü\n\nhttps://gateway.example/reset?link=secret-token-0123456789\n"


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate for 127.0.0.1 that this machine trusts."""
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


def mail(port: int, directory: Path, **settings: Any) -> Mail:
    described = {"type": "smtp", "host": "127.0.0.1", "port": port, "use_tls": False}
    described |= {"from_email": "dwctl@example.com", "from_name": "Gate"}
    return Mail(Email(**described | settings), directory)


def check(box: Postbox, *, encrypted: bool) -> None:
    [message] = box.messages
    assert (message["To"], message["Subject"], message["From"]) == (TO, SUBJECT, "Gate <dwctl@example.com>")
    assert message["Reply-To"] == "help@example.com"
    assert message.get_content().replace("\r\n", "\n") == TEXT
    assert box.encrypted == [encrypted]


@pytest.mark.parametrize("known", [False, True], ids=["anybody", "signed in"])
@pytest.mark.parametrize("tls", [None, "starttls", "from the start"])
async def test_a_message_arrives(tmp_path: Path, trusted: Path, monkeypatch: pytest.MonkeyPatch, tls: Tls | None, known: bool) -> None:
    with postbox(tls=tls, certificate=trusted, known_senders=known) as box:
        if tls == "from the start":
            monkeypatch.setattr("dwctl.outbound.mail._PORT_OF_TLS", box.port)
        settings = {"username": NAME, "password": PASSWORD} if known else {}
        sender = mail(box.port, tmp_path, use_tls=tls is not None, reply_to="help@example.com", **settings)
        await sender.send(TO, SUBJECT, TEXT)
        check(box, encrypted=tls is not None)


async def failure(sender: Mail) -> str:
    with pytest.raises(MailError) as raised:
        await sender.send(TO, SUBJECT, TEXT)
    text = str(raised.value)
    assert "secret-token" not in text
    assert PASSWORD not in text
    assert base64.b64encode(f"\0{NAME}\0{PASSWORD}".encode()).decode() not in text
    return text


async def test_what_is_not_encrypted_is_not_sent_where_it_must_be(tmp_path: Path) -> None:
    with postbox(known_senders=True) as box:
        sender = mail(box.port, tmp_path, use_tls=True, username=NAME, password=PASSWORD)
        assert "STARTTLS" in await failure(sender)
        assert box.messages == []
        assert box.credentials == [], "nor the password"


@pytest.mark.parametrize("tls", ["starttls", "from the start"])
async def test_a_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    with postbox(tls=tls, certificate=self_signed(tmp_path), known_senders=True) as box:
        if tls == "from the start":
            monkeypatch.setattr("dwctl.outbound.mail._PORT_OF_TLS", box.port)
        text = await failure(mail(box.port, tmp_path, use_tls=True, username=NAME, password=PASSWORD))
        assert "CERTIFICATE_VERIFY_FAILED" in text
        assert (box.messages, box.credentials) == ([], [])


@pytest.mark.parametrize(("given", "said"), [("wrong", "SMTPAuthenticationError: 535"), ("geheim-ü", "not ASCII")])
async def test_a_wrong_password(tmp_path: Path, given: str, said: str) -> None:
    with postbox(known_senders=True) as box:
        text = await failure(mail(box.port, tmp_path, username=NAME, password=given))
        assert said in text
        assert given not in text
        assert box.messages == []


async def test_the_server_s_answers_are_told_but_not_what_it_repeats(tmp_path: Path) -> None:
    with postbox() as box:
        box.refuse = "550 5.1.1 no such mailbox"
        assert "no such mailbox" in await failure(mail(box.port, tmp_path))
        box.refuse, box.reject = None, "554 5.7.1 looks like spam: {}"
        assert await failure(mail(box.port, tmp_path)) == "SMTPDataError: 554"


async def test_a_server_that_is_down(tmp_path: Path) -> None:
    assert "ConnectionRefusedError" in await failure(mail(free_port(), tmp_path))


async def test_a_server_that_says_nothing_is_waited_for_so_long_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwctl.outbound.mail._SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in await failure(mail(silent.getsockname()[1], tmp_path))
    with postbox() as box:
        box.awake.clear()
        assert "timed out" in await failure(mail(box.port, tmp_path))
        assert (box.waiting, box.messages) == (1, [])


def test_authorities_are_known_where_the_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert trusting().cert_store_stats()["x509_ca"] > 50
