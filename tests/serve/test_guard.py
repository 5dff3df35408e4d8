"""Who may read the pages of `mnist-ff serve`: whoever has the token, from this machine, asking by itself."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")

from starlette.responses import PlainTextResponse

from mnist_ff.serve.guard import HEADERS, Guard, Keys
from tests.support.serving import request

KEYS = Keys()
APP = Guard(PlainTextResponse("the runs"), KEYS)
COOKIE = ("cookie", f"mnist-ff-4000={KEYS.token}")
BEARER = ("authorization", f"Bearer {KEYS.token}")
OPEN = [
    [COOKIE],
    [BEARER],
    [("cookie", f"other=1; mnist-ff-4000={KEYS.token}; mnist-ff-4001=x")],
    [("cookie", f"mnist-ff-4000=old; mnist-ff-4000={KEYS.token}")],
    [COOKIE, ("sec-fetch-site", "none")],
    [
        COOKIE,
        ("sec-fetch-site", "same-origin"),
        ("referer", "http://127.0.0.1:4000/"),
        ("origin", "http://127.0.0.1:4000"),
    ],
    [("host", "localhost:4000"), COOKIE],
    [("host", "[::1]:4000"), COOKIE],
    [("host", "localhost:9999"), ("cookie", f"mnist-ff-9999={KEYS.token}")],  # a tunnel that begins at another port
    [("host", "localhost"), ("cookie", f"mnist-ff-80={KEYS.token}")],
]
SHUT = [
    [],
    [("cookie", "mnist-ff-4000=")],
    [("cookie", f"mnist-ff-4000={KEYS.token[:-1]}")],
    [("cookie", f"mnist-ff-4000={KEYS.token}x")],
    [("cookie", f"mnist-ff-4001={KEYS.token}")],  # of another server
    [("cookie", "mnist-ff-4000=\xe9\xff")],
    [("authorization", "Bearer ")],
    [("authorization", f"Basic {KEYS.token}")],
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
def test_the_token_opens(headers: list[tuple[str, str]]) -> None:
    answer = request(APP, "/runs.json", headers)
    assert (answer.status, answer.text) == (200, "the runs")


@pytest.mark.parametrize("headers", SHUT)
def test_all_else_is_refused(headers: list[tuple[str, str]]) -> None:
    answer = request(APP, "/runs.json", headers)
    assert answer.status == 403
    assert "the runs" not in answer.text
    assert KEYS.token not in answer.text + str(answer.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_it_is_only_read(method: str) -> None:
    answer = request(APP, "/", [COOKIE], method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_the_token_leaves_the_address() -> None:
    """It becomes a cookie that no script reads and no other page sends, named by the port that the browser sees."""
    answer = request(APP, f"/?token={KEYS.token}", [("host", "localhost:9999")])
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie == f"mnist-ff-9999={KEYS.token}; HttpOnly; SameSite=Strict; Path=/"


def test_a_link_on_another_page_moves_on_by_itself() -> None:
    """After a redirect the browser would not send a strict cookie: the one that it was given just now."""
    answer = request(APP, f"/?token={KEYS.token}", [("sec-fetch-site", "cross-site")])
    assert answer.status == 200
    assert "set-cookie" in answer.headers
    assert 'http-equiv="refresh"' in answer.text
    assert KEYS.token not in answer.text


@pytest.mark.parametrize("query", ["token=%ff", "once=%C3%A9", "%ff=1&token", "token=%00%ED%A0%80"])
def test_bytes_that_are_no_text_do_not_open(query: str) -> None:
    assert request(APP, f"/?{query}").status == 403


def test_the_token_opens_the_first_page_only() -> None:
    assert request(APP, f"/runs.json?token={KEYS.token}").status == 403
    assert request(APP, "/?token=").status == 403
    assert request(APP, f"/?token={KEYS.token[1:]}").status == 403
    assert request(APP, f"/?token={KEYS.token}", [("host", "evil.example")]).status == 403


def test_a_word_that_opens_once() -> None:
    keys = Keys()
    app = Guard(PlainTextResponse("the runs"), keys)
    assert request(app, "/?once=").status == 403
    word = keys.once()
    assert word != keys.token
    assert request(app, f"/?once={word}").status == 303
    assert request(app, f"/?once={word}").status == 403


def test_every_answer_forbids_what_pages_do_not_need() -> None:
    for headers in ([COOKIE], []):
        answer = request(APP, "/", headers)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_tokens_are_long_and_differ() -> None:
    tokens = {Keys().token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32  # of 64 letters each: 192 bits
