"""The middleware that every request passes: method, host, login, and the headers of every answer."""

from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyhole.dashboard.access import COOKIE, Access

#: The browser loads only the style, the script and the events of the dashboard itself, and sends forms only
#: to it. No other page can frame it.
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
#: The paths that a browser needs before it has logged in, and the path that a supervisor asks.
OPEN_PATHS: Final = frozenset({"/login", "/health", "/static/dashboard.css", "/static/dashboard.js"})
#: The paths that accept POST: logging in and out changes only a cookie.
_POSTS: Final = frozenset({"/login", "/logout"})


class Guard:
    """Refuses requests that the dashboard must not answer, and adds the headers to all answers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is refused; `None` if it is not refused."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        allowed = {"GET", "HEAD"} | ({"POST"} if path in _POSTS else set())
        if method not in allowed:
            return PlainTextResponse("the dashboard only reads\n", 405, {"allow": ", ".join(sorted(allowed))})
        if not self._access.is_known_host(headers.get("host")):
            return PlainTextResponse(
                "this dashboard does not have this name; start it with --allow-host NAME\n", 421
            )
        if path in OPEN_PATHS or self._access.allows(_cookie(headers), headers.get("authorization")):
            return None
        if path == "/live" or "authorization" in headers:
            return PlainTextResponse("log in first\n", 401, {"www-authenticate": "Bearer"})
        query = scope["query_string"].decode("ascii", "replace")
        target = path + (f"?{query}" if query else "")
        return RedirectResponse("/login" + ("" if target == "/" else f"?next={quote(target, safe='')}"), 303)


def _cookie(headers: Headers) -> str | None:
    """Return the value of the dashboard's cookie; `None` if the request has none, or several."""
    pairs = [pair.strip().partition("=") for text in headers.getlist("cookie") for pair in text.split(";")]
    values = [value for name, _, value in pairs if name == COOKIE]
    return values[0] if len(values) == 1 else None
