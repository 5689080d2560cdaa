"""An application for `cachedorm warm`: the recycling models on the servers that a test names."""

import os
from functools import partial

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

import models
from cachedorm import Cache

# A busy machine is no fault: what is not stored in time is not stored.
patient = partial(Cache, connect_timeout=5, operation_timeout=5, commit_timeout=10)


def made() -> Cache:
    """A Cache whose sessions are for threads."""
    cache = patient(os.environ["WARM_REDIS"], regions=models.REGIONS)
    cache.attach(sessionmaker(create_engine(os.environ["WARM_DATABASE"])))
    return cache


def made_for_coroutines() -> Cache:
    """A Cache whose sessions are for coroutines."""
    cache = patient(os.environ["WARM_REDIS"], regions=models.REGIONS)
    cache.attach(async_sessionmaker(create_async_engine(os.environ["WARM_DATABASE"])))
    return cache


not_a_cache = 3
