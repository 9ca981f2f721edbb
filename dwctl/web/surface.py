"""The pages' side of the doorway: forms in, HTML out, and refusals that a person can act on.

What a browser gets (docs: one table for every page)
  a view                       200; the one block it asks for, if a page that is open asks (``HX-Request-Type: partial``)
  go elsewhere                 303, to a script ``HX-Redirect``; a message for the next page in a cookie
  a form with mistakes         422, the form again with what was typed and a sentence at each field
  a change made meanwhile      409, the same
  a form that is too old       403, the same with a fresh token
  not signed in                303 to /login, which leads back; to a script 401 with ``HX-Redirect``
  not allowed, missing, broken a page that says why, and who can help; of what broke a script gets a message beside its page
"""

from collections.abc import AsyncIterator
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from sanic.request import Request
from sanic.response import HTTPResponse, ResponseStream

from dwctl.clock import now_us
from dwctl.doorway import Keys, Message, Route, feed, respond_error, session_cookie_name
from dwctl.errors import INVALID, GatewayError, bad_request, forbidden
from dwctl.web.context import Context
from dwctl.web.forms import decode_fields, state_of
from dwctl.web.navigation import roles_named
from dwctl.web.pages import Feed, Go, PageAnswer, PageRoute, View
from dwctl.web.rendering import RESUME, Renderer
from dwctl.web.signing import TOKEN_FIELD, TOKEN_HEADER, Flash, Keepsakes, Signer

_SHOWN_AGAIN = {400: 422, 401: 422, 403: 403, 404: 422, 409: 409, 412: 409, 422: 422, 429: 429}
"""Refusals that are answered by the form itself: status of the error -> status of the page."""
_API = ("/admin/api/", "/ai/", "/v1/", "/api/", "/authentication/", "/internal/", "/static/")
PASSWORD_PAGE = "/password"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'; manifest-src 'self'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
    "vary": "Cookie, HX-Request, HX-Request-Type, HX-Target",
}


class Pages:
    """HTML for people."""

    table = "pages"
    methods: dict[str, list[str]] = {"GET": ["GET", "HEAD"]}  # noqa: RUF012 - never changed
    knows_visitors = True
    cross_origin = False

    def __init__(self, renderer: Renderer, signing_key: bytes) -> None:
        self._renderer = renderer
        self._signer = Signer(signing_key)

    def keys(self, route: Route) -> Keys:
        return "none"

    async def serve(self, route: Route, context: Context) -> HTTPResponse | ResponseStream:
        assert isinstance(route, PageRoute)
        actor = context.visitor
        if actor is not None and actor.must_change_password and route.needs_own_password:
            return self._go(context, Go(PASSWORD_PAGE))
        if route.query is not None:
            context.query = decode_fields(dict(context.request.args), route.query)
        if route.method == "GET":
            return self._answer(context, await route.handler(context))
        fields = _fields(context.request)
        try:
            self._check_token(context, fields)
            if route.form is not None:
                context.body = decode_fields(fields, route.form)
            result = await route.handler(context)
        except GatewayError as error:
            status = _SHOWN_AGAIN.get(error.status)
            if route.again is None or status is None:
                raise
            context.form = state_of(context.request.path, fields, error)
            result = await route.again(context)
            if not isinstance(result, View):
                raise error from None
            result.status = status
            if error.retry_after is not None:
                result.headers["retry-after"] = str(max(1, -int(-error.retry_after // 1)))
        return self._answer(context, result)

    async def refuse(self, context: Context, error: GatewayError) -> HTTPResponse:
        request = context.request
        if not wants_page(request):
            return respond_error(error)
        if error.status == 401:
            return self._sign_in(context)
        if error.status >= 500 and "hx-request" in request.headers:
            reference = error.fields.get("reference")
            text = f"{error.message} Reference: {reference}" if reference else error.message
            result = View("errors/toast.html", {"flash": Flash(text, "danger")}, error.status)
        else:
            values = {"error": error, "roles": roles_named(error.missing_right), "now": now_us()}
            result = View("errors/page.html", values, error.status)
        result.headers.update(error.headers)
        if error.retry_after is not None:
            result.headers["retry-after"] = str(max(1, -int(-error.retry_after // 1)))
        return self._show(context, result)

    def _check_token(self, context: Context, fields: dict[str, list[str]]) -> None:
        given = context.request.headers.get(TOKEN_HEADER) or (fields.get(TOKEN_FIELD) or [""])[-1]
        if not Keepsakes(self._signer, context).accepts(given):
            raise forbidden(
                "This form was opened before you last signed in or out. What you typed is still here: please send it again.",
                code="form_expired",
            )

    def _answer(self, context: Context, result: PageAnswer) -> HTTPResponse | ResponseStream:
        if isinstance(result, View):
            return self._show(context, result)
        if isinstance(result, Go):
            return self._go(context, result)
        if isinstance(result, Feed):
            return self._follow(context, result)
        return result

    def _show(self, context: Context, shown: View) -> HTTPResponse:
        keepsakes = Keepsakes(self._signer, context)
        html = None
        block = asked_block(context.request)
        if block is not None:
            html = self._renderer.block(shown.template, block, shown.values, context, keepsakes)
            if html is not None and shown.flash is not None:
                html += self._renderer.page("toast.html", {"flash": shown.flash}, context, keepsakes)
        if html is None:
            html = self._renderer.page(shown.template, shown.values, context, keepsakes)
        headers = shown.headers | ({"referrer-policy": "no-referrer"} if shown.once else {})
        return self._response(context, html, shown.status, headers, [*shown.cookies, *keepsakes.cookies])

    def _follow(self, context: Context, followed: Feed) -> ResponseStream:
        keepsakes = Keepsakes(self._signer, context)

        async def messages(last_id: str | None) -> AsyncIterator[Message]:
            async for update in followed.updates(last_id):
                yield Message(update.id, self._renderer.page(followed.template, update.values, context, keepsakes))

        return feed(context, messages)

    def _go(self, context: Context, target: Go) -> HTTPResponse:
        keepsakes = Keepsakes(self._signer, context)
        if target.flash is not None:
            keepsakes.leave(target.flash)
        if "hx-request" in context.request.headers:
            status, headers = 200, {"hx-redirect": target.to}
        else:
            status, headers = 303, {"location": target.to}
        return self._response(context, "", status, headers, [*target.cookies, *keepsakes.cookies])

    def _sign_in(self, context: Context) -> HTTPResponse:
        request = context.request
        if request.method in ("GET", "HEAD"):
            back = request.path + (f"?{request.query_string}" if request.query_string else "")
        else:
            back = _page_of_form(request, context.peer.host)
        ended = session_cookie_name(context.services, context.peer) in request.cookies
        target = f"/login?next={quote(back, safe='/')}{'&ended=1' if ended else ''}"
        if "hx-request" in request.headers:
            # A part of a page, or a feed, was asked for: the page as a whole has to sign in again.
            page = _address(request, "hx-current-url")
            back = page.path + (f"?{page.query}" if page.query else "") or back
            target = f"/login?next={quote(back, safe='/')}&ended=1"
            return self._response(context, "", 401, {"hx-redirect": target}, [])
        return self._response(context, "", 303, {"location": target}, [])

    def _response(self, context: Context, html: str, status: int, headers: dict[str, str], cookies: list[str]) -> HTTPResponse:
        sent = {**_HEADERS, **headers}
        if context.peer.scheme == "https":
            sent["strict-transport-security"] = "max-age=31536000"
        response = HTTPResponse(html, status, sent, "text/html; charset=utf-8")
        for cookie in cookies:
            response.headers.add("set-cookie", cookie)
        return response


def wants_page(request: Request) -> bool:
    """Whether whoever asks is a browser at a page, who should be answered in HTML."""
    if request.path.startswith(_API):
        return False
    return "hx-request" in request.headers or "text/html" in request.headers.get("accept", "")


def safe_path(text: str | None) -> str:
    """A path on this server to go on to, from a query that anybody may have written; Home if it is none."""
    if not text or not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isprintable() or "\\" in text:
        return "/"
    return text


def asked_block(request: Request) -> str | None:
    """The block that ``HX-Target`` names: ``div#rows-of-today`` -> ``rows_of_today``."""
    if request.headers.get("hx-request-type") != "partial":
        return None
    _, _, element = request.headers.get("hx-target", "").partition("#")
    return element.replace("-", "_") or None


def _fields(request: Request) -> dict[str, list[str]]:
    """The fields of a form. Raises GatewayError 400 and 415."""
    if not request.body:
        return {}
    if request.headers.get("content-type", "").split(";", 1)[0].strip().lower() != "application/x-www-form-urlencoded":
        raise GatewayError(415, INVALID, "unsupported_media_type", "Send the form as application/x-www-form-urlencoded.")
    try:
        return parse_qs(request.body.decode(), keep_blank_values=True)
    except ValueError:
        raise bad_request("The form is not UTF-8.") from None


def _address(request: Request, header: str) -> SplitResult:
    """The page that a header names; nothing at all if it is no address."""
    try:
        text = request.headers.get(header, "")
        return urlsplit(text if text.isprintable() else "")
    except ValueError:
        return urlsplit("")


def _page_of_form(request: Request, host: str) -> str:
    """The page on which a form was filled in, so that it can be filled in again."""
    page = _address(request, "referer")
    if page.netloc.lower() != host.lower():
        return "/"
    query = f"{page.query}&{RESUME}=1" if page.query else f"{RESUME}=1"
    return f"{safe_path(page.path)}?{query}"
