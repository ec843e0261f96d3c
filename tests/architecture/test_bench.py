"""The benchmark runs, and says something about everything it was asked."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench import receiver
from scripts.bench.figures import Figure, percentile, table
from scripts.bench.receiver import Receiver, a_receiver

ROOT = Path(__file__).parents[2]


def test_a_quick_run_on_the_embedded_store_ends_with_its_table() -> None:
    asked = ["--quick", "--store", "SQLite", "--only", "burst", "--only", "next_after", "--only", "streams"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.bench", *asked], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert rows[0] == ["what", "ours", "limit", "ratio"]
    told = {row[0]: row for row in rows}
    burst = told["burst of 300, once each, SQLite"]
    assert "last receipt after" in burst[1]
    assert float(burst[3]) > 0
    assert "next_after, cron" in told
    assert "last " in told["40 listen streams, one occurrence to all, SQLite"][1]
    assert "gone after" in told["SIGTERM under 40 listen streams, SQLite"][1]
    assert "could not run" not in done.stdout


@pytest.fixture(params=["C", "Python"] if shutil.which("cc") else ["Python"])
def sink(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    if request.param == "Python":
        monkeypatch.setattr(receiver, "_compiled", lambda _: None)
    with a_receiver() as made:
        assert made.kind == request.param
        yield made


def test_a_receiver_remembers_how_late_each_body_came(sink: Receiver) -> None:
    post(sink, b'{"scheduled_at":"2020-01-01T00:00:00Z"}')
    post(sink, b"nothing said")
    assert sink.count() == 2
    assert len(sink.lateness()) == 1
    assert sink.lateness()[0] > 0
    sink.reset()
    assert sink.count() == 0


def post(sink: Receiver, body: bytes) -> None:
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", sink.port, timeout=10)
    connection.request("POST", "/hook", body=body)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_table_reads_as_markdown() -> None:
    lines = list(table([Figure("one", "1/s", "2/s", 0.5), Figure("two", "3 ms")]))
    assert lines[0].startswith("| what")
    assert set(lines[1]) == {"|", "-"}
    assert lines[2].endswith("| 0.50  |")
    assert len({len(line) for line in lines}) == 1


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [1.0, 51.0, 100.0, 100.0]
