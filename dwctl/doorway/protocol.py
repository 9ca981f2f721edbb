"""One connection: how long a client may take to say what it wants."""

from typing import Any

from sanic.exceptions import RequestTimeout
from sanic.http.constants import Stage
from sanic.server.protocols.http_protocol import HttpProtocol

from dwctl.clock import monotonic
from dwctl.doorway.framing import StrictHttp


class PatientProtocol(HttpProtocol):
    """Sanic's protocol, with a deadline that trickling bytes do not push back (slow-loris): for the head of every request, and for a
    body that Sanic reads itself. Bodies of model calls have the gateway's own deadline."""

    HTTP_CLASS = StrictHttp

    def data_received(self, data: bytes) -> None:
        since = self._time
        http = self.http
        awaited = http is not None and (http.stage is Stage.REQUEST or _reads_body(http))
        super().data_received(data)
        if awaited:
            self._time = since

    def check_timeouts(self) -> None:
        """Called by a timer. A request whose body is late is refused; when the refusal is out and the body still missing, cut off."""
        http = self.http
        now = monotonic()
        if self._task and http is not None and _reads_body(http) and now - self._time > self.request_timeout:
            if http.stage is Stage.HANDLER:
                http.exception = RequestTimeout()
            self._time = now
            self._callback_check_timeouts = self.loop.call_later(self.request_timeout / 2, self.check_timeouts)
            self._task.cancel()
        else:
            super().check_timeouts()


def _reads_body(http: Any) -> bool:
    """Whether bytes of a body are to come that no streaming handler asked for; Sanic lifts the size limit for those that do."""
    return bool(getattr(http, "request_body", None)) and http.request_max_size != float("inf")
