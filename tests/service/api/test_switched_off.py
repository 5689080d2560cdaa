"""A process whose cache is off, beside one whose cache is on."""

from __future__ import annotations

from tests.support.service.process import Application, bearer


def test_a_process_without_cache(application: Application, town_url: str, town_redis: str) -> None:
    """It reads the database, and what it writes is followed all the same."""
    user, token = "u0007", bearer("u0007")
    with Application(town_url, town_redis, cache="false") as off:
        plain, cached = off.answering("/ready").client, application.client
        for number in range(5):
            assert cached.get(f"/profile/{user}", headers=token).status_code == 200
            body = {"nickname": f"renamed {number}"}
            plain.put(f"/profile/{user}", headers=token, json=body).raise_for_status()
            for client in (cached, plain):
                read = client.get(f"/profile/{user}", headers=token)
                assert read.json()["nickname"] == body["nickname"]
        for _ in range(2):
            answer = plain.get("/guides/plastic")
            assert (answer.status_code, answer.headers["cache-status"]) == (
                200,
                'cachedorm; fwd=bypass; detail="disabled"',
            )
