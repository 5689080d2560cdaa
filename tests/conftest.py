"""What every test may ask for. Each family of fixtures is a file in tests/fixtures/."""

import signal

from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.redis",
    "tests.fixtures.logs",
    "tests.fixtures.faults",
    "tests.fixtures.command_line",
    "tests.fixtures.closing_line",
]

# No deadline: a busy machine is no bug. Fifty draws where a test names no number of its own.
settings.register_profile("cachedorm", deadline=None, max_examples=50)
settings.load_profile("cachedorm")

# A run that a shell put into the background ignores Ctrl-C; the tests of interrupts send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
