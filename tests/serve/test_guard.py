"""Access control of `mnist-ff serve`: token, Host, Origin, Referer and the headers of responses."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from starlette.responses import PlainTextResponse

from mnist_ff.serve.guard import HEADERS, Guard, Tokens
from tests.support.serving import request

TOKENS = Tokens()
APP = Guard(PlainTextResponse("the runs"), TOKENS)
COOKIE = ("cookie", f"mnist-ff-4000={TOKENS.token}")
BEARER = ("authorization", f"Bearer {TOKENS.token}")
OPEN = [
    [COOKIE],
    [BEARER],
    [("cookie", f"other=1; mnist-ff-4000={TOKENS.token}; mnist-ff-4001=x")],
    [("cookie", f"mnist-ff-4000=old; mnist-ff-4000={TOKENS.token}")],
    [COOKIE, ("sec-fetch-site", "none")],
    [
        COOKIE,
        ("sec-fetch-site", "same-origin"),
        ("referer", "http://127.0.0.1:4000/"),
        ("origin", "http://127.0.0.1:4000"),
    ],
    [("host", "localhost:4000"), COOKIE],
    [("host", "[::1]:4000"), COOKIE],
    [("host", "localhost:9999"), ("cookie", f"mnist-ff-9999={TOKENS.token}")],  # a tunnel that begins at another port
    [("host", "localhost"), ("cookie", f"mnist-ff-80={TOKENS.token}")],
]
SHUT = [
    [],
    [("cookie", "mnist-ff-4000=")],
    [("cookie", f"mnist-ff-4000={TOKENS.token[:-1]}")],
    [("cookie", f"mnist-ff-4000={TOKENS.token}x")],
    [("cookie", f"mnist-ff-4001={TOKENS.token}")],  # of another server
    [("cookie", "mnist-ff-4000=\xe9\xff")],
    [("authorization", "Bearer ")],
    [("authorization", f"Basic {TOKENS.token}")],
    [COOKIE, ("sec-fetch-site", "cross-site")],
    [COOKIE, ("sec-fetch-site", "same-site")],  # another port of this machine
    [COOKIE, ("origin", "http://127.0.0.1:4001")],
    [COOKIE, ("origin", "null")],
    [BEARER, ("origin", "https://evil.example")],
    [COOKIE, ("referer", "http://127.0.0.1:40000/")],
    [COOKIE, ("referer", "http://evil.example/")],
    *(
        [("host", host), BEARER]
        for host in (
            "evil.example",
            "evil.example:4000",
            "127.0.0.1.evil.example:4000",
            "localhost.:4000",
            "127.0.0.2:4000",
            "0.0.0.0:4000",
            "",
            "localhost:4000@evil.example",
            "localhost:x",
            "2130706433:4000",
            "LOCALHOST\n:4000",
        )
    ),
    [("host", "localhost:4000"), ("host", "evil.example"), BEARER],
]


@pytest.mark.parametrize("headers", OPEN)
def test_requests_with_the_token_pass(headers: list[tuple[str, str]]) -> None:
    answer = request(APP, "/runs.json", headers)
    assert (answer.status, answer.text) == (200, "the runs")


@pytest.mark.parametrize("headers", SHUT)
def test_all_other_requests_are_refused(headers: list[tuple[str, str]]) -> None:
    answer = request(APP, "/runs.json", headers)
    assert answer.status == 403
    assert "the runs" not in answer.text
    assert TOKENS.token not in answer.text + str(answer.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_methods_that_write_are_refused(method: str) -> None:
    answer = request(APP, "/", [COOKIE], method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_token_in_the_address_becomes_a_cookie() -> None:
    """The cookie is hidden from scripts and other sites, and named by the port that the browser sees."""
    answer = request(APP, f"/?token={TOKENS.token}", [("host", "localhost:9999")])
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie == f"mnist-ff-9999={TOKENS.token}; HttpOnly; SameSite=Strict; Path=/"


def test_a_link_on_another_site_gets_a_page_that_refreshes_itself() -> None:
    """After a redirect from another site a browser would not send the new SameSite=Strict cookie."""
    answer = request(APP, f"/?token={TOKENS.token}", [("sec-fetch-site", "cross-site")])
    assert answer.status == 200
    assert "set-cookie" in answer.headers
    assert 'http-equiv="refresh"' in answer.text
    assert TOKENS.token not in answer.text


@pytest.mark.parametrize("query", ["token=%ff", "once=%C3%A9", "%ff=1&token", "token=%00%ED%A0%80"])
def test_tokens_that_are_not_utf8_are_refused(query: str) -> None:
    assert request(APP, f"/?{query}").status == 403


def test_a_token_in_the_address_works_on_the_first_page_only() -> None:
    assert request(APP, f"/runs.json?token={TOKENS.token}").status == 403
    assert request(APP, "/?token=").status == 403
    assert request(APP, f"/?token={TOKENS.token[1:]}").status == 403
    assert request(APP, f"/?token={TOKENS.token}", [("host", "evil.example")]).status == 403


def test_a_one_time_token_works_once() -> None:
    tokens = Tokens()
    app = Guard(PlainTextResponse("the runs"), tokens)
    assert request(app, "/?once=").status == 403
    word = tokens.new_one_time_token()
    assert word != tokens.token
    assert request(app, f"/?once={word}").status == 303
    assert request(app, f"/?once={word}").status == 403


def test_every_response_has_the_security_headers() -> None:
    for headers in ([COOKIE], []):
        answer = request(APP, "/", headers)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_tokens_are_long_and_differ() -> None:
    tokens = {Tokens().token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32  # of 64 letters each: 192 bits
