"""The pages of the dashboard."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import redis
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

from keyhole.dashboard.access import COOKIE, COOKIE_SECONDS, Access
from keyhole.dashboard.live import Live
from keyhole.dashboard.parameters import FILTERS, ParameterError, parameters, read_filter, read_status
from keyhole.dashboard.reader import Reader
from keyhole.dashboard.rendering import flat, render, url
from keyhole.dashboard.strip import strip
from keyhole.errors import KeyholeError
from keyhole.reasons import Status
from keyhole.reports import contents, figures
from keyhole.results.search import CursorError, Page

log = logging.getLogger(__name__)

#: The number of verdicts or objects on a page.
PAGE: Final = 50
#: The longest body of the login form, in bytes, and its most fields. It has two.
_LONGEST_FORM: Final = 4096
_MOST_FIELDS: Final = 10
#: The page in the menu to which a page belongs that is not in the menu.
_PARENTS: Final = {"/object": "/verdicts", "/audit": "/audits"}
#: The headings of pages about errors, by the status of the answer.
_HEADINGS: Final = {
    400: "Wrong request",
    404: "Not found",
    413: "Wrong request",
    429: "Too many attempts",
    500: "Error in Keyhole",
    503: "Not available",
}


class MissingError(KeyholeError):
    """What the page is about does not exist."""


class FormError(KeyholeError):
    """The login form cannot be read. `code` is the status of the answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Pages:
    """Answers the requests. The reader's calls run in threads, because the client of Redis waits."""

    def __init__(self, reader: Reader, access: Access) -> None:
        self._reader = reader
        self._access = access
        self.live = Live(self._parts)

    async def overview(self, request: Request) -> Response:
        """Return the first page."""
        return await self._page(request, "overview.html.jinja", lambda _: {"view": self._reader.overview()})

    async def verdicts(self, request: Request) -> Response:
        """Return a page of verdicts."""

        def read(given: Mapping[str, str]) -> dict[str, Any]:
            query = {name: given[name].strip() for name in FILTERS}
            after, page = given["after"] or None, Page((), None)
            try:
                wanted = read_filter(query)
                trouble = self._reader.misspelling(wanted)
                if trouble is None:
                    page = self._reader.verdicts(wanted, after, PAGE)
            except (ParameterError, CursorError) as error:
                # The form stays as it was filled in, so that the user can correct it.
                trouble = str(error)
            return {
                "code": 400 if trouble else 200,
                "trouble": trouble,
                "page": page,
                "query": query,
                "following": page.cursor and url("/verdicts", **query, after=page.cursor),
                "first": url("/verdicts", **query) if after else None,
            }

        return await self._page(request, "verdicts.html.jinja", read)

    async def one(self, request: Request) -> Response:
        """Return the page of one object."""

        def read(given: Mapping[str, str]) -> dict[str, Any]:
            bucket, key, version_id = given["bucket"], given["key"], given["version"] or None
            if not bucket or not key:
                raise ParameterError("name an object: its bucket and its key")
            view = self._reader.one(bucket, key, version_id)
            report = view.report
            return {
                "bucket": bucket,
                "key": key,
                "version_id": version_id,
                "view": view,
                "report": report,
                "details": flat(report.details) if report else [],
                "strip": strip(report.ranges, report.size) if report else None,
            }

        return await self._page(request, "object.html.jinja", read)

    async def audits(self, request: Request) -> Response:
        """Return the page of audits."""
        return await self._page(
            request,
            "audits.html.jinja",
            lambda _: {"audits": self._reader.audits(), "fleet": self._reader.fleet()},
        )

    async def audit(self, request: Request) -> Response:
        """Return the page of one audit."""

        def read(given: Mapping[str, str]) -> dict[str, Any]:
            status, after = read_status(given["status"]), given["after"] or None
            view = self._reader.audit(given["id"], status, after, PAGE)
            if view is None:
                raise MissingError("there is no audit with this id; the verdicts of an audit can outlive it")
            audit, now = view.audit, datetime.now(UTC)

            def objects_url(of: Status | None, cursor: str | None = None) -> str:
                return url("/audit", id=audit.id, status=of, after=cursor) + "#objects"

            return {
                "view": view,
                "audit": audit,
                "notice": contents.notice(audit, now),
                "verdict": contents.verdict(audit.totals.statuses, audit.totals.not_images),
                "when": figures.span(audit.started_at, audit.ended_at),
                "costs": list(contents.costs(audit, now)),
                "asked": list(contents.asked(audit)),
                "chosen": status,
                "objects_url": objects_url,
                "first": objects_url(status) if after else None,
                "following": view.cursor and objects_url(status, view.cursor),
            }

        return await self._page(request, "audit.html.jinja", read)

    async def dead(self, request: Request) -> Response:
        """Return the page of dead letters."""

        def read(_: Mapping[str, str]) -> dict[str, Any]:
            letters, count = self._reader.letters()
            return {"letters": letters, "count": count}

        return await self._page(request, "dead.html.jinja", read)

    async def work(self, request: Request) -> Response:
        """Return the page of queues and workers."""
        return await self._page(request, "work.html.jinja", lambda _: {"fleet": self._reader.fleet()})

    async def events(self, request: Request) -> Response:
        """Return the stream of the parts that change."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self.live.is_full:
            return PlainTextResponse(
                "too many open pages; reload this page to see changes\n", 503, {"retry-after": "60"}
            )
        return StreamingResponse(
            self.live.stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
        )

    async def health(self, _request: Request) -> Response:
        """Return 200 if Redis answers, otherwise 503."""
        try:
            await asyncio.to_thread(self._reader.ping)
        except redis.RedisError:
            return JSONResponse({"status": "Redis does not answer"}, 503)
        return JSONResponse({"status": "ok"})

    async def login(self, request: Request) -> Response:
        """Show the form for the token, or check the token."""
        target = _own_path(request.query_params.get("next", "/"))
        if self._access.token is None:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return HTMLResponse(render("login.html.jinja", target=target, wrong=False))
        if self._access.is_locked():
            return self._error(request, 429, "too many wrong tokens; wait a minute")
        try:
            given = await _token_of(request)
        except FormError as error:
            return self._error(request, error.code, str(error))
        if not self._access.is_token(given.strip()):
            log.warning("a wrong token was refused", extra={"client": request.client and request.client.host})
            return HTMLResponse(render("login.html.jinja", target=target, wrong=True), 403)
        answer = RedirectResponse(target, 303)
        answer.set_cookie(
            COOKIE,
            self._access.new_cookie(),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def logout(self, _request: Request) -> Response:
        """Remove the cookie."""
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def not_found(self, request: Request, _error: Exception) -> Response:
        """Return the page for a path that does not exist."""
        return self._error(request, 404, "there is no such page")

    async def bug(self, request: Request, _error: Exception) -> Response:
        """Return the page for an unexpected error, which the server logs."""
        return self._error(request, 500, "this is a bug in Keyhole; the log has the details")

    async def _page(
        self, request: Request, template: str, read: Callable[[Mapping[str, str]], dict[str, Any]]
    ) -> Response:
        """Return a page.

        `read` gets the parameters of the URL, and returns the values for the template. The value `code` is
        the status of the answer; by default it is 200.
        """
        try:
            given = parameters(request.url.path, request.query_params.multi_items())
            values = await asyncio.to_thread(read, given)
        except (ParameterError, CursorError) as error:
            return self._error(request, 400, str(error))
        except MissingError as error:
            return self._error(request, 404, str(error))
        except redis.RedisError as error:
            log.warning("Redis failed: %s", type(error).__name__)
            return self._error(
                request, 503, "Redis does not answer; check that it runs, then reload this page"
            )
        html = await asyncio.to_thread(partial(render, template, **self._frame(request), **values))
        return HTMLResponse(html, values.get("code", 200))

    def _error(self, request: Request, code: int, message: str) -> Response:
        return HTMLResponse(
            render(
                "error.html.jinja",
                **self._frame(request),
                code=code,
                heading=_HEADINGS[code],
                message=message,
            ),
            code,
        )

    def _frame(self, request: Request) -> dict[str, Any]:
        """Return the values that every page needs."""
        return {"path": request.url.path, "parents": _PARENTS, "has_login": self._access.token is not None}

    async def _parts(self) -> dict[str, str]:
        """Return the parts of pages that change. If Redis fails, only say so."""
        try:
            view = await asyncio.to_thread(self._reader.overview)
        except redis.RedisError:
            return {"state": render("parts/state.html.jinja", trouble="Redis does not answer; trying again")}
        names = ("attention", "running", "counts", "latest", "queues", "processes")
        parts = {name: render(f"parts/{name}.html.jinja", view=view, fleet=view.fleet) for name in names}
        return {"state": render("parts/state.html.jinja", trouble=None), **parts}


async def _token_of(request: Request) -> str:
    """Return the token in the login form; an empty text if there is none.

    Raises:
        FormError: The form is too long, or has too many fields.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise FormError(413, "the form is too long")
    try:
        fields = parse_qs(body.decode(errors="replace"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise FormError(400, "the form has too many fields") from None
    return fields.get("token", [""])[0]


def _own_path(target: str) -> str:
    """Return a path of the dashboard, to which a browser goes after the login; `/` for everything else."""
    is_own = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_own and "\\" not in target.partition("?")[0] else "/"
