"""Mail: a message written to a folder, or handed to an SMTP server (RFC 5321). The standard library does both.

It has threads of its own: a server that is slow must not keep passwords from being checked.
"""

import asyncio
import smtplib
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import formataddr, formatdate, make_msgid
from pathlib import Path

from dwctl import ids
from dwctl.config.schema import Email
from dwctl.outbound.trust import trusting

_SECONDS = 20
_AT_ONCE = 2
_PORT_OF_TLS = 465


class MailError(Exception):
    """A message could not be handed over; the text says why, without its content."""


class Mail:
    """Sends plain text as ``settings`` say. ``available`` is false if they name no way."""

    def __init__(self, settings: Email, data_dir: Path) -> None:
        self._settings = settings
        self._folder = settings.path or data_dir / "emails"
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mail")
        self.available = settings.type is not None

    async def send(self, to: str, subject: str, text: str) -> None:
        """Hand over one message. Raises MailError."""
        message = EmailMessage()
        message["From"] = formataddr((self._settings.from_name, self._settings.from_email))
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._settings.from_email.rpartition("@")[2] or "localhost")
        if self._settings.reply_to is not None:
            message["Reply-To"] = self._settings.reply_to
        message.set_content(text)
        leave = self._write if self._settings.type == "file" else self._hand_over
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, leave, message)
        except (OSError, smtplib.SMTPException, UnicodeEncodeError) as error:
            raise MailError(_reason(error)) from error

    def close(self) -> None:
        """Begin nothing more; what a server is just being handed goes on."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _write(self, message: EmailMessage) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{ids.new_text()}.eml"
        partial = path.with_suffix(".part")
        partial.touch(mode=0o600)
        partial.write_bytes(message.as_bytes())
        partial.rename(path)

    def _hand_over(self, message: EmailMessage) -> None:
        settings = self._settings
        host, tls = settings.host or "localhost", trusting()
        from_start = settings.use_tls and settings.port == _PORT_OF_TLS
        client = (
            smtplib.SMTP_SSL(host, settings.port, timeout=_SECONDS, context=tls)
            if from_start
            else smtplib.SMTP(host, settings.port, timeout=_SECONDS)
        )
        with client:
            if settings.use_tls and not from_start:
                client.starttls(context=tls)
            if settings.username is not None:
                client.login(settings.username, settings.password or "")
            client.send_message(message)


def _reason(error: Exception) -> str:
    """What may be in the log. A server that has seen the password or the message may repeat it in its answer: of that only the code."""
    if isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPDataError):
        return f"{type(error).__name__}: {error.smtp_code}"
    if isinstance(error, UnicodeEncodeError):
        return "The name or the password for the SMTP server is not ASCII"
    return f"{type(error).__name__}: {error}"
