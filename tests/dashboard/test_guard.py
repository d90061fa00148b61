"""Who may see the dashboard, from where, and with which headers."""

import json
import socket
from collections.abc import Callable

import pytest
import redis

from keyhole.dashboard.access import COOKIE, COOKIE_SECONDS, FAILURE_SECONDS, MOST_FAILURES, Access
from keyhole.dashboard.live import MOST_STREAMS
from keyhole.dashboard.pages import _own_path
from tests.dashboard.conftest import TOKEN, Site
from tests.e2e.commands import PATIENCE, until

PROTECTED = ("/", "/verdicts", "/object?bucket=a&key=b", "/audits", "/work", "/dead", "/live", "/nowhere")
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def logged_in(site: Site, token: str = TOKEN, path: str = "/login") -> tuple[int, str, str]:
    """Log in, and return the status, the place to go to, and the cookie."""
    answer = site.get(
        path, "POST", f"token={token}".encode(), Content_Type="application/x-www-form-urlencoded"
    )
    cookie = answer.headers.get("set-cookie", "")
    return answer.status, answer.headers.get("location", ""), cookie.partition(";")[0]


class TestWithAToken:
    @pytest.mark.parametrize("path", PROTECTED)
    def test_nothing_is_shown_before_the_login(self, start: Callable[..., Site], path: str) -> None:
        site = start(TOKEN)
        for headers in (
            {},
            {"Cookie": f"{COOKIE}=9999999999.00"},
            {"Cookie": f"{COOKIE}="},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
        ):
            answer = site.get(path, **headers)
            assert answer.status in {303, 401}
            assert "Overview" not in answer.text
            assert answer.headers.get("location", "/login").startswith("/login")
        assert site.get(f"{path}{'&' if '?' in path else '?'}token={TOKEN}").status in {303, 401}

    def test_the_form_gives_a_cookie_for_the_page_that_was_asked_for(
        self, start: Callable[..., Site]
    ) -> None:
        site = start(TOKEN)
        place = site.get("/verdicts?q=a%26b").headers["location"]
        assert TOKEN not in site.get(place).text

        status, location, cookie = logged_in(site, path=place)

        assert (status, location) == (303, "/verdicts?q=a%26b")
        assert TOKEN not in cookie
        page = site.get(location, Cookie=f"other=1; {cookie}")
        assert page.status == 200
        assert "Log out" in page.text
        assert TOKEN not in page.text

    def test_the_cookie_is_kept_from_scripts_and_other_sites(self, start: Callable[..., Site]) -> None:
        answer = start(TOKEN).get("/login", "POST", f"token={TOKEN}".encode())

        attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/"} <= attributes

    def test_a_wrong_token_is_refused_and_too_many_lock_the_form(self, start: Callable[..., Site]) -> None:
        site = start(TOKEN)
        answers = [logged_in(site, "wrong")[0] for _ in range(MOST_FAILURES)]

        assert set(answers) == {403}
        assert logged_in(site)[0] == 429
        assert site.get("/", Authorization=f"Bearer {TOKEN}").status != 200

    def test_programs_send_it_in_a_header(self, start: Callable[..., Site]) -> None:
        assert start(TOKEN).get("/", Authorization=f"bearer {TOKEN}").status == 200

    def test_a_long_form_is_refused(self, start: Callable[..., Site]) -> None:
        assert start(TOKEN).get("/login", "POST", b"token=" + b"x" * 10_000).status == 413

    def test_a_form_with_many_fields_is_refused(self, start: Callable[..., Site]) -> None:
        answer = start(TOKEN).get("/login", "POST", b"&".join([b"a=1"] * 30))

        assert answer.status == 400
        assert "the form has too many fields" in answer.text

    def test_two_cookies_are_none(self, start: Callable[..., Site]) -> None:
        """A neighbouring site can set a second cookie with the same name."""
        site = start(TOKEN)
        _, _, cookie = logged_in(site)

        assert site.get("/", Cookie=f"{cookie}; {COOKIE}=1.2").status == 303


class TestAccess:
    def test_a_cookie_expires_and_belongs_to_its_token(self) -> None:
        now = [1000.0]
        access = Access(TOKEN, clock=lambda: now[0])
        cookie = access.new_cookie()

        assert access.allows(cookie, None)
        assert not Access(TOKEN + "x", clock=lambda: now[0]).allows(cookie, None)
        later = str(int(cookie.partition(".")[0]) + 1) + "." + cookie.partition(".")[2]
        assert not access.allows(later, None)
        now[0] += COOKIE_SECONDS
        assert not access.allows(cookie, None)

    def test_a_lock_ends(self) -> None:
        now = [1000.0]
        access = Access(TOKEN, clock=lambda: now[0])
        for _ in range(MOST_FAILURES):
            assert not access.is_token("wrong")
        assert access.is_locked()
        now[0] += FAILURE_SECONDS
        assert not access.is_locked()

    @pytest.mark.parametrize("cookie", ["", ".", "1.", "٣.x", "9" * 99 + ".x", "-1.x", "1e9.x", "\ud800.x"])
    def test_what_is_no_cookie_is_refused(self, cookie: str) -> None:
        assert not Access(TOKEN).allows(cookie, None)

    @pytest.mark.parametrize(
        "target", ["//evil.example", "/\\evil.example", "https://evil.example", "", "javascript:1", "/a\nb"]
    )
    def test_a_login_leads_to_no_other_site(self, target: str) -> None:
        assert _own_path(target) == "/"


class TestHosts:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:9", "keyhole.example"]
    )
    def test_known_names_are_answered(self, site: Site, host: str) -> None:
        assert site.get("/health", host=host).status == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "keyhole.example@evil", "::1"],
    )
    def test_other_names_are_not(self, site: Site, host: str) -> None:
        """A name on the internet that leads to 127.0.0.1 must not open the dashboard."""
        answer = site.get("/", host=host)

        assert answer.status in {400, 421}
        assert "Overview" not in answer.text


class TestEveryAnswer:
    @pytest.mark.parametrize(
        "path", ["/", "/nowhere", "/health", "/static/dashboard.css", "/verdicts?after=1"]
    )
    def test_has_the_headers(self, site: Site, path: str) -> None:
        headers = site.get(path).headers

        assert SECURITY.items() <= headers.items()
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert ("no-store" in headers["cache-control"]) is not path.startswith("/static")
        assert "server" not in headers

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    def test_only_reads(self, site: Site, method: str) -> None:
        assert site.get("/verdicts", method).status == 405

    def test_a_missing_redis_is_told_without_its_address(self, site: Site) -> None:
        reader = site.dashboard.pages._reader

        def fail(*_: object, **__: object) -> None:
            raise redis.ConnectionError("Error 111 connecting to redis://user:secret@host")

        reader.overview = reader.ping = fail  # type: ignore[method-assign,assignment]

        for path in ("/", "/health"):
            answer = site.get(path)
            assert answer.status == 503
            assert "Redis does not answer" in answer.text
            assert "secret" not in answer.text


class TestStreams:
    @staticmethod
    def opened(site: Site) -> socket.socket:
        stream = socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE)
        stream.sendall(f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode())
        return stream

    @staticmethod
    def read(stream: socket.socket, until: bytes) -> bytes:
        found = b""
        while until not in found:
            found += stream.recv(65536)
        return found

    def test_they_send_the_parts_that_change(self, site: Site) -> None:
        with self.opened(site) as stream:
            found = self.read(stream, b"}\n\n")

        data = found[found.index(b"data: ") + 6 : found.index(b"\n\n", found.index(b"data: "))]
        parts = json.loads(data)
        assert parts.keys() == {"state", "attention", "running", "counts", "latest", "queues", "processes"}
        assert b"content-type: text/event-stream" in found.lower()
        assert "<script" not in json.dumps(parts)

    def test_head_opens_none(self, site: Site) -> None:
        with socket.create_connection(("127.0.0.1", site.port), timeout=60) as made:
            for request in ("HEAD /live", "GET /health"):
                made.sendall(f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode())
            # The second answer only comes when the first one is complete.
            assert b"text/event-stream" in self.read(made, b'"ok"')

    def test_their_number_is_limited_and_places_become_free(self, site: Site) -> None:
        streams = [self.opened(site) for _ in range(MOST_STREAMS)]
        for stream in streams:
            self.read(stream, b"retry")
        assert site.get("/live").status == 503
        assert site.get("/").status == 200

        for stream in streams:
            stream.close()
        until(lambda: site.dashboard.pages.live.streams == 0)
