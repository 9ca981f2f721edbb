"""A real SMTP server on a loopback port, which a test tells what to be: encrypted, choosy about who sends and who receives, slow."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.appliance import free_port

NAME, PASSWORD = "mailer", "a password for mail"

Tls = Literal["starttls", "from the start"]


class Postbox:
    """``messages`` are those that were taken in. ``refuse`` answers a recipient, ``reject`` (with ``{}`` for the content) a message.
    While it is not ``awake`` nobody who begins a message is answered; ``waiting`` counts those who began one."""

    def __init__(self) -> None:
        self.port = free_port()
        self.messages: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        """For each message: whether it came encrypted."""
        self.credentials: list[tuple[bytes, bytes]] = []
        """Names and passwords that somebody tried."""
        self.refuse: str | None = None
        self.reject: str | None = None
        self.awake = threading.Event()
        self.awake.set()
        self.waiting = 0

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.waiting += 1
        await asyncio.to_thread(self.awake.wait)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.refuse is not None:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        if self.reject is not None:
            return self.reject.format(" ".join(message.get_content().split()))
        self.messages.append(message)
        self.encrypted.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        if not isinstance(given, LoginPassword):
            return AuthResult(success=False, handled=False)
        self.credentials.append((given.login, given.password))
        return AuthResult(success=(given.login.decode(), given.password.decode()) == (NAME, PASSWORD), handled=False)


@contextlib.contextmanager
def postbox(*, tls: Tls | None = None, certificate: Path | None = None, known_senders: bool = False) -> Iterator[Postbox]:
    """A server; with ``known_senders`` only for ``NAME`` and ``PASSWORD``."""
    box = Postbox()
    context = None
    if tls is not None:
        assert certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        ssl_context=context if tls == "from the start" else None,
        tls_context=context if tls == "starttls" else None,
        require_starttls=tls == "starttls",
        authenticator=box.authenticate if known_senders else None,
        auth_required=known_senders,
        auth_require_tls=False,
    )
    controller.start()
    try:
        yield box
    finally:
        box.awake.set()
        controller.stop()
