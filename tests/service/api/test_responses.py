"""Whole responses: kept for everybody, gone with the commit that changes one of their rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

import models
from models import Guide
from tests.fixtures.patience import patient_cache
from tests.support.service.process import Application, bearer


def test_a_response_follows_its_row(
    applications: tuple[Application, Application], town_url: str, town_redis: str
) -> None:
    """A guide is answered from Redis by both processes, and by neither once it has changed."""
    one, other = (each.client for each in applications)
    category = "followed response"
    engine = create_engine(town_url)
    with patient_cache(town_redis, regions=models.REGIONS) as cache:
        sessions = sessionmaker(engine)
        cache.attach(sessions)
        with sessions.begin() as session:
            session.add(Guide(category=category, title="before", content="c"))
        path = f"/guides/{category}"
        for client in (one, other, one, other):
            assert client.get(path).json()["title"] == "before"
        kept = one.get(path, headers=bearer("anybody"))
        assert kept.headers["cache-status"].startswith("cachedorm; hit")
        for number in range(20):
            with sessions.begin() as session:
                guide = session.scalars(Guide.by(category=category)).one()
                guide.title = f"after {number}"
            for client in (other, one):
                assert client.get(path).json()["title"] == f"after {number}"
        with sessions.begin() as session:
            session.delete(session.scalars(Guide.by(category=category)).one())
        assert [client.get(path).status_code for client in (one, other)] == [404, 404]
        cache.detach(sessions)
        cache.detach(engine)
    engine.dispose()


def test_metrics_have_the_documents_names(application: Application) -> None:
    """Under its names, with exactly its labels."""
    application.client.get("/guides/plastic")
    text = application.client.get("/metrics").text
    assert 'redis_cache_misses_total{db="5",operation="get"}' in text
    assert "redis_cache_latency_seconds_bucket" in text


def test_any_process_tells_the_metrics_of_all(
    town_url: str, town_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they share a folder to count in, as `uvicorn --workers` does."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with (
        Application(town_url, town_redis) as one,
        Application(town_url, town_redis) as other,
    ):
        for each in (one, other, other):
            assert each.get("/profile/u0012", bearer("u0012")).status_code == 200
        for each in (one, other):
            families = text_string_to_metric_families(each.client.get("/metrics").text)
            reads = [
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == "redis_cache_latency_seconds_count"
                and sample.labels == {"db": "2", "operation": "get"}
            ]
            assert reads == [3]
