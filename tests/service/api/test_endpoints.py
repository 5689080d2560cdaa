"""The document's endpoints, asked from outside."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from tests.support.service.process import Application, bearer

DOCUMENT = {
    ("get", "/profile/{user_id}"): {"user_id"},
    ("put", "/profile/{user_id}"): {"user_id"},
    ("get", "/character/{user_id}"): {"user_id"},
    ("post", "/character/{user_id}/exp"): {"user_id", "exp"},
    ("get", "/centers/nearby"): {"lat", "lon", "radius"},
    ("get", "/centers/{center_id}"): {"center_id"},
    ("get", "/guides/{category}"): {"category"},
    ("get", "/search"): {"keyword"},
    ("get", "/chat/history/{user_id}"): {"user_id", "limit"},
    ("get", "/scan/{task_id}"): {"task_id"},
    ("get", "/scan/history/{user_id}"): {"user_id", "limit"},
}
BESIDE = {
    ("post", "/auth/revoke"),
    ("get", "/auth/revocations/{jti}"),
    ("get", "/health"),
    ("get", "/ready"),
}


def test_the_documents_endpoints_are_there(application: Application) -> None:
    """Each with its parameters; beside them only what tokens and probes need."""
    paths = application.get("/openapi.json").json()["paths"]
    found = {(method, path): each for path, item in paths.items() for method, each in item.items()}

    assert set(found) == set(DOCUMENT) | BESIDE
    for operation, parameters in DOCUMENT.items():
        named = {each["name"] for each in found[operation].get("parameters", ())}
        assert named == parameters, operation


def test_a_profile_is_read_and_changed(application: Application) -> None:
    """The change is in the next read, and what was not given stays."""
    token = bearer("u0002")
    before = application.get("/profile/u0002", token).json()
    done = application.client.put(
        "/profile/u0002", headers=token, json={"nickname": "새싹", "district": None}
    )
    after = application.get("/profile/u0002", token).json()

    assert done.json() == {"message": "Profile updated"}
    assert after == {**before, "nickname": "새싹", "district": None}
    application.client.put("/profile/u0002", headers=token, json={"district": "종로구"})
    assert application.get("/profile/u0002", token).json()["nickname"] == "새싹"
    assert "password_hash" not in after


def test_a_character_gains_experience(application: Application, town: Engine) -> None:
    """Levels rise as many as it takes, in the database too."""
    token = bearer("u0003")
    with town.begin() as connection:
        connection.execute(
            text(
                "update character_db.characters set level = 1, exp = 0, exp_required = 100"
                " where user_id = 'u0003'"
            )
        )
    done = application.client.post("/character/u0003/exp?exp=300", headers=token)
    state = application.get("/character/u0003", token).json()

    assert (done.status_code, done.json()) == (200, {"message": "Exp gained"})
    # 100 from 1 to 2, 150 from 2 to 3, and 50 are left of 200.
    assert {name: state[name] for name in ("level", "exp", "exp_required")} == {
        "level": 3,
        "exp": 50,
        "exp_required": 200,
    }
    with town.connect() as connection:
        row = connection.execute(
            text("select level, exp from character_db.characters where user_id = 'u0003'")
        ).one()
    assert tuple(row) == (3, 50)


def test_missions_are_counted(application: Application, town: Engine) -> None:
    """In all and completed; 0 and 0 without any."""
    with town.begin() as connection:
        connection.execute(text("delete from character_db.missions where user_id = 'u0004'"))
        counts = connection.execute(
            text(
                "select count(*), count(*) filter (where status = 'completed')"
                " from character_db.missions where user_id = 'u0001'"
            )
        ).one()
    first = application.get("/character/u0001", bearer("u0001")).json()
    none = application.get("/character/u0004", bearer("u0004")).json()

    assert (first["total_missions"], first["completed_missions"]) == tuple(counts)
    assert (none["total_missions"], none["completed_missions"]) == (0, 0)


def test_centers_nearby_are_postgis_own(application: Application, town: Engine) -> None:
    """Nearest first, at most 20, within whole kilometres; 5 where nothing is said."""
    point = {"lat": 37.5665, "lon": 126.978}
    answer = application.get("/centers/nearby", params=point).json()
    wide = application.get("/centers/nearby", params={**point, "radius": 30}).json()

    for found, metres in ((answer, 5_000), (wide, 30_000)):
        distances = [each["distance_m"] for each in found]
        assert distances == sorted(distances)
        assert [each["center_id"] for each in found] == nearest(town, metres)
    assert len(wide) == 20


def nearest(town: Engine, metres: int) -> list[str]:
    """What PostGIS says itself."""
    statement = text(
        "select c.id from location_db.recycle_centers c,"
        " (select ST_SetSRID(ST_MakePoint(126.978, 37.5665), 4326)::geography as point) here"
        " where ST_DWithin(c.location, here.point, :metres)"
        " order by ST_Distance(c.location, here.point), c.id limit 20"
    )
    with town.connect() as connection:
        return list(connection.scalars(statement, {"metres": metres}))


def test_a_center_a_guide_and_a_search(application: Application) -> None:
    """Public, and found whatever the case of the word."""
    center = application.get("/centers/c00001").json()
    guide = application.get("/guides/plastic").json()
    found = application.get("/search", params={"keyword": " PLASTIC "}).json()

    assert center["center_id"] == "c00001"
    assert guide["category"] == "plastic"
    assert guide in found
    assert application.get("/search", params={"keyword": "100%_\\"}).json() == []


def test_histories_are_as_long_as_asked(application: Application, town: Engine) -> None:
    """10 conversations and 20 scans unless more or fewer are asked for; 10 first, then more."""
    token = bearer("u0001")
    for path, usual in (("/chat/history/u0001", 10), ("/scan/history/u0001", 20)):
        lengths = [len(application.get(path, token, params=p).json()) for p in LIMITS]
        assert lengths == [usual, 3, 24, usual]
    newest = [each["created_at"] for each in application.get("/chat/history/u0001", token).json()]
    assert newest == sorted(newest, reverse=True)
    task_id = application.get("/scan/history/u0001", token).json()[0]["task_id"]
    assert application.get(f"/scan/{task_id}", token).json()["task_id"] == task_id


LIMITS: list[dict[str, int]] = [{}, {"limit": 3}, {"limit": 100}, {}]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/profile/nobody", "User not found"),
        ("/character/nobody", "User not found"),
        ("/chat/history/nobody", "User not found"),
        ("/scan/history/nobody", "User not found"),
        ("/scan/nothing", "Scan not found"),
        ("/auth/revocations/nothing", "Revocation not found"),
        ("/centers/nowhere", "Center not found"),
        ("/guides/nothing", "Guide not found"),
        ("/nothing", "Not Found"),
    ],
)
def test_what_is_not_there(application: Application, path: str, says: str) -> None:
    """404, and what it is that is not there."""
    answer = application.get(path, bearer("nobody"))
    assert (answer.status_code, answer.json()) == (404, {"detail": says})


def test_a_user_without_a_character(application: Application, town: Engine) -> None:
    """The user is there; it is the character that is not."""
    with town.begin() as connection:
        connection.execute(text("delete from character_db.characters where user_id = 'u0005'"))
    told = [
        application.get("/character/u0005", bearer("u0005")),
        application.client.post("/character/u0005/exp?exp=1", headers=bearer("u0005")),
    ]
    assert [each.json() for each in told] == [{"detail": "Character not found"}] * 2


def test_changes_of_what_is_not_there(application: Application) -> None:
    """404 for writes too."""
    token = bearer("nobody")
    change = application.client.put("/profile/nobody", headers=token, json={"nickname": "x"})
    gain = application.client.post("/character/nobody/exp?exp=1", headers=token)
    assert [each.json() for each in (change, gain)] == [{"detail": "User not found"}] * 2


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("GET", "/profile/u0001", {}),
        ("PUT", "/profile/u0001", {"json": {"nickname": "mine now"}}),
        ("GET", "/character/u0001", {}),
        ("POST", "/character/u0001/exp?exp=1", {}),
        ("GET", "/chat/history/u0001", {}),
        ("GET", "/scan/history/u0001", {}),
        ("GET", "/scan/{task_id}", {}),
    ],
)
def test_what_is_somebody_elses(
    application: Application, method: str, path: str, given: dict[str, Any]
) -> None:
    """403 to another user, 401 to nobody in particular."""
    task = application.get("/scan/history/u0001", bearer("u0001")).json()[0]["task_id"]
    path = path.format(task_id=task)
    other = application.client.request(method, path, headers=bearer("u0007"), **given)
    nobody = application.client.request(method, path, **given)

    assert (other.status_code, other.json()) == (403, {"detail": "Not yours"})
    assert (nobody.status_code, nobody.json()) == (401, {"detail": "Not authenticated"})
    assert nobody.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/profile/u0001", "GET, HEAD, PUT"),
        ("/centers/nearby", "GET, HEAD"),
        ("/auth/revoke", "POST"),
    ],
)
def test_other_methods(application: Application, path: str, allowed: str) -> None:
    """405 with every method of the path, not the first route's only."""
    for method in ("DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = application.client.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed), method


def test_head_is_get_without_the_body(application: Application) -> None:
    """Same headers, no body."""
    got, head = application.get("/guides/plastic"), application.client.head("/guides/plastic")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.content))
    assert head.headers["Content-Type"] == "application/json"
    assert application.client.head("/profile/u0001").status_code == 401


def test_no_redirect_to_where_the_client_says(application: Application) -> None:
    """A slash too many is another path, not a redirect made of the Host header."""
    answer = application.get("/guides/plastic/", {"Host": "evil.example"})
    assert answer.status_code == 404
    assert isinstance(answer, httpx.Response)
