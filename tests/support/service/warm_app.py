"""An application for `cachedorm warm`: the recycling models on the servers that a test names."""

import os

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

import models
from cachedorm import Cache
from tests.fixtures.patience import patient_cache


def made() -> Cache:
    """A Cache whose sessions are for threads."""
    cache = patient_cache(os.environ["WARM_REDIS"], regions=models.REGIONS)
    cache.attach(sessionmaker(create_engine(os.environ["WARM_DATABASE"])))
    return cache


def made_for_coroutines() -> Cache:
    """A Cache whose sessions are for coroutines."""
    cache = patient_cache(os.environ["WARM_REDIS"], regions=models.REGIONS)
    cache.attach(async_sessionmaker(create_async_engine(os.environ["WARM_DATABASE"])))
    return cache


not_a_cache = 3
