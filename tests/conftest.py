"""Private servers for whoever asks, and an honest end: what could not run is named, and in CI it fails the run."""

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TextIO, cast

import psycopg
import pytest

from qhronos_core.adapters.local.logs import configure
from tests.canaries import met_in
from tests.servers import Postgres, Redis, ServerMissing, private_postgres, private_redis

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@pytest.fixture(scope="session", autouse=True)
def _logs_are_those_of_production() -> None:
    """At debug level, and a field that is not on the list fails (security.md §5). Clients of the tests are not ours."""
    configure("debug", "json", stream=cast("TextIO", _PresentStderr()), strict=True)
    for client in ("httpx2", "httpcore2", "websockets.client"):
        logging.getLogger(client).setLevel(logging.WARNING)


class _PresentStderr:
    """Wherever pytest has it at that moment."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One private PostgreSQL for the run (one per worker, under xdist)."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(private_postgres())
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database of this test's own."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


_AS_NEW = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations' LOOP
            EXECUTE format('DELETE FROM %I', name);
        END LOOP;
    END $$;
    INSERT INTO store_meta DEFAULT VALUES;
    ALTER SEQUENCE journal_position RESTART
"""


@pytest.fixture(scope="session")
def _migrated(postgres_server: Postgres) -> str:
    from qhronos_core.adapters.postgres.schema import migrate

    url = postgres_server.new_database()
    asyncio.run(migrate(url))
    return url


@pytest.fixture
def migrated_postgres_url(_migrated: str) -> str:
    """A migrated database with nothing in it and nobody connected: one for the run, emptied, which takes milliseconds."""
    with psycopg.connect(_migrated, autocommit=True) as connection:
        connection.execute(_AS_NEW)
    return _migrated


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One private Redis for the run (one per worker, under xdist)."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(private_redis())
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield server


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The run's Redis, emptied before this test."""
    redis_server.flush()
    return redis_server.url


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """S34: no test's log (at debug level) or output holds a secret of the shared fixtures."""
    report = yield
    met = [
        f"{name} in {section}"
        for section, text in report.sections
        if section.endswith(report.when)
        for name in met_in(text)
    ]
    if met and report.outcome != "failed":
        report.outcome = "failed"
        report.longrepr = f"A secret was logged or printed: {'; '.join(met)}."
    return report


def _not_run(config: pytest.Config) -> Counter[str]:
    """How many tests were skipped, by reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    return Counter(
        report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in skipped
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and session.exitstatus == pytest.ExitCode.OK and _not_run(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    not_run = _not_run(config)
    if not not_run:
        return
    terminalreporter.section("could not run")
    for reason, tests in sorted(not_run.items()):
        terminalreporter.line(f"{tests} test{'s' if tests > 1 else ''}: {reason}")
    if IN_CI:
        terminalreporter.line("In CI nothing may be skipped, so this run has failed.", red=True)
