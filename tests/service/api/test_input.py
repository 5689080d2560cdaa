"""Bad input: refused with a clear word, never a 500, and nothing of it in a header."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.fixtures.patience import PATIENCE
from tests.support.service.process import Application, bearer

HUGE = "9" * 5000


@pytest.mark.parametrize(
    "path",
    [
        "/chat/history/u0006?limit=0",
        "/chat/history/u0006?limit=-1",
        "/chat/history/u0006?limit=101",
        f"/chat/history/u0006?limit={HUGE}",
        "/chat/history/u0006?limit=ten",
        "/chat/history/u0006?limit=1_0",
        "/chat/history/u0006?limit=+5",
        "/chat/history/u0006?limit=",
        "/scan/history/u0006?limit=1e1",
        "/scan/history/u0006?limit=%00",
        "/centers/nearby",
        "/centers/nearby?lat=37.5",
        "/centers/nearby?lat=91&lon=0",
        "/centers/nearby?lat=0&lon=-180.01",
        "/centers/nearby?lat=nan&lon=0",
        "/centers/nearby?lat=inf&lon=0",
        "/centers/nearby?lat=1_0&lon=0",
        "/centers/nearby?lat=37.5&lon=127&radius=0",
        "/centers/nearby?lat=37.5&lon=127&radius=-5",
        "/centers/nearby?lat=37.5&lon=127&radius=101",
        "/centers/nearby?lat=37.5&lon=127&radius=2.5",
        "/search",
        "/search?keyword=",
        "/search?keyword=%20",
        "/search?keyword=%E3%80%80+%C2%A0",
        "/search?keyword=a%00b",
        "/search?keyword=a%0d%0aSet-Cookie:x",
        f"/search?keyword={'k' * 101}",
        f"/guides/{'g' * 65}",
        "/guides/pla%00stic",
        "/centers/c%0a1",
        "/scan/task%00",
        "/auth/revocations/%00",
    ],
)
def test_parameters(application: Application, path: str) -> None:
    """422, and where it is."""
    answer = application.get(path, bearer("u0006"))
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"]


@pytest.mark.parametrize("exp", ["0", "-1", "1000001", str(2**63), HUGE, "1.5", "many", "", "١"])
def test_experience(application: Application, exp: str) -> None:
    """Never taken, never more than one gain can be."""
    path = f"/character/u0006/exp?exp={quote(exp)}"
    before = application.get("/character/u0006", bearer("u0006")).json()
    answer = application.client.post(path, headers=bearer("u0006"))
    assert answer.status_code == 422
    assert application.get("/character/u0006", bearer("u0006")).json() == before


def test_a_character_that_is_full(application: Application, town: Any) -> None:
    """What its columns cannot hold is refused, not wrapped round."""
    with town.begin() as connection:
        connection.exec_driver_sql(
            "update character_db.characters set exp = 9223372036854775807 where user_id = 'u0008'"
        )
    answer = application.client.post("/character/u0008/exp?exp=1", headers=bearer("u0008"))
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "exp"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '"text"',
        '{"nickname": ""}',
        '{"nickname": null}',
        '{"nickname": 5}',
        '{"nickname": "a\\u0000b"}',
        '{"nickname": "\\ud800"}',
        '{"nickname": NaN}',
        '{"nickname": "%s"}' % ("n" * 65),
        '{"nickname": "n", "email": "new@example.com"}',
        '{"nickname": "n", "password_hash": "x"}',
        '{"nickname": "n", "\\udfff": 1}',
        '{"nickname": ' + HUGE + "}",
        "[" * 3000,
        b"\xff\xfe{",
        b'{"nickname": "\xff"}',
    ],
)
def test_bodies(application: Application, body: str | bytes) -> None:
    """422 for what is no JSON and for what is not meant; the profile stays."""
    token = {**bearer("u0006"), "Content-Type": "application/json"}
    before = application.get("/profile/u0006", token).json()
    answer = application.client.put("/profile/u0006", headers=token, content=body)
    assert answer.status_code == 422, answer.text
    assert {"loc", "msg", "type"} == set(answer.json()["detail"][0])
    assert application.get("/profile/u0006", token).json() == before


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", ""])
def test_other_content_types(application: Application, kind: str) -> None:
    """JSON is JSON because it says so."""
    token = {**bearer("u0006"), "Content-Type": kind}
    answer = application.client.put("/profile/u0006", headers=token, content='{"nickname": "n"}')
    assert answer.status_code == 422


def test_a_large_body(application: Application) -> None:
    """413, announced or in chunks, read or not."""
    token = {**bearer("u0006"), "Content-Type": "application/json"}
    large = json.dumps({"nickname": "n" * 70_000}).encode()
    announced = application.client.put("/profile/u0006", headers=token, content=large)
    chunked = application.client.put("/profile/u0006", headers=token, content=iter([large] * 3))
    unread = application.client.request("GET", "/guides/plastic", content=large)

    told = [(each.status_code, each.json()) for each in (announced, chunked, unread)]
    assert told == [(413, {"detail": "Body too large"})] * 3


def test_nothing_of_a_request_becomes_a_header(application: Application) -> None:
    """Line ends in paths, queries and ids stay where they are."""
    for path in ("/profile/x%0d%0aSet-Cookie:a=b", "/x%0d%0aSet-Cookie:a=b?y=%0d%0aX:1"):
        answer = application.get(path, bearer("u0006"))
        assert answer.status_code in {403, 404, 422}
        assert "set-cookie" not in answer.headers
        assert "x" not in answer.headers


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /profile/u0001 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /guides/%ff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /search?keyword=%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /search?keyword=a&keyword=b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //evil.example/guides/plastic HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /guides/../../etc HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /guides/plastic HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"GET /guides/plastic HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: \xff, ,\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ],
)
def test_requests_that_no_client_makes(application: Application, raw: bytes) -> None:
    """Anything but a 500, and the process goes on."""
    parts = urlsplit(application.url)
    with socket.create_connection(
        (parts.hostname or "", parts.port or 0), timeout=PATIENCE
    ) as line:
        line.sendall(raw)
        status = line.recv(4096).split(b" ")[1]
    assert status in {b"200", b"400", b"401", b"404", b"422"}
    assert httpx.get(f"{application.url}/health").status_code == 200
