"""What every test may ask for. Each family of fixtures is a file in tests/fixtures/."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.redis",
    "tests.fixtures.logs",
    "tests.fixtures.faults",
    "tests.fixtures.closing_line",
]
