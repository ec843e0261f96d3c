"""What a store still lacks, and what no release should touch."""

import shutil
from importlib import resources
from pathlib import Path

import pytest

from qhronos_core.adapters import migrations
from qhronos_core.adapters.migrations import Applied, Migration, StoreRefusedError, missing

ONE, TWO, THREE = (Migration(number, f"000{number}_of_{number}", f"SELECT {number};") for number in (1, 2, 3))
OURS = [ONE, TWO, THREE]


def as_applied(migration: Migration) -> Applied:
    return Applied(migration.number, migration.name, migration.checksum)


def test_a_new_store_lacks_all_in_order() -> None:
    assert missing(OURS, []) == OURS


def test_what_was_applied_is_not_applied_again() -> None:
    assert missing(OURS, [as_applied(TWO), as_applied(ONE)]) == [THREE]
    assert missing(OURS, [as_applied(migration) for migration in OURS]) == []


def test_a_newer_store_is_refused_and_named() -> None:
    with pytest.raises(StoreRefusedError, match="0003_of_3"):
        missing([ONE, TWO], [as_applied(migration) for migration in OURS])


def test_a_store_made_from_another_text_is_refused() -> None:
    with pytest.raises(StoreRefusedError, match="0001_of_1"):
        missing(OURS, [Applied(1, ONE.name, "another")])


def test_a_checksum_does_not_depend_on_the_line_ends_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "qhronos_core.adapters.sqlite"
    ours = [migration.checksum for migration in migrations.known(package)]

    def with_other_line_ends(package: str) -> Path:
        shutil.copytree(str(real(package) / "migrations"), tmp_path / "migrations")
        for file in (tmp_path / "migrations").glob("*.sql"):
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        return tmp_path

    real = resources.files
    monkeypatch.setattr("qhronos_core.adapters.migrations.resources.files", with_other_line_ends)
    assert [migration.checksum for migration in migrations.known(package)] == ours


@pytest.mark.parametrize("package", ["qhronos_core.adapters.sqlite", "qhronos_core.adapters.postgres"])
def test_both_stores_number_their_migrations_without_a_hole(package: str) -> None:
    found = migrations.known(package)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1))
    assert found
