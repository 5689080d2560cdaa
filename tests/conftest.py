"""What every test may ask for. Each family of fixtures is a file in tests/fixtures/."""

from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.redis",
    "tests.fixtures.logs",
    "tests.fixtures.faults",
    "tests.fixtures.closing_line",
]

# No deadline: a busy machine is no bug. Fifty draws where a test names no number of its own.
settings.register_profile("cachedorm", deadline=None, max_examples=50)
settings.load_profile("cachedorm")
