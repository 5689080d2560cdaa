"""Two processes on one database and one Redis: what one has answered, the other has heard."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine, text

from tests.support.service.process import Application, bearer

ROUNDS = 200


def test_a_read_after_a_writes_answer_shows_it(
    applications: tuple[Application, Application],
) -> None:
    """Each writes and the other reads, in turn: what it reads, it had in the cache before."""
    token = bearer("u0010")
    stale = []
    for number in range(ROUNDS):
        writer, reader = applications if number % 2 else applications[::-1]
        nickname = f"name {number}"
        done = writer.client.put("/profile/u0010", headers=token, json={"nickname": nickname})
        assert done.status_code == 200
        read = reader.get("/profile/u0010", token).json()["nickname"]
        stale += [(number, read)] if read != nickname else []
    assert stale == []


def test_gains_are_never_lost_nor_read_late(
    applications: tuple[Application, Application], town: Engine
) -> None:
    """Both gain at once, and after both answers either reads the sum."""
    token = bearer("u0011")
    with town.begin() as connection:
        connection.execute(
            text(
                "update character_db.characters set level = 1, exp = 0, exp_required = 100"
                " where user_id = 'u0011'"
            )
        )
    for each in applications:
        each.get("/character/u0011", token)

    def gain(application: Application) -> int:
        path = "/character/u0011/exp?exp=1"
        return int(application.client.post(path, headers=token).status_code)

    with ThreadPoolExecutor(2) as pool:
        for number in range(1, 31):
            assert list(pool.map(gain, applications)) == [200, 200]
            read = [each.get("/character/u0011", token).json()["exp"] for each in applications]
            assert read == [2 * number] * 2
