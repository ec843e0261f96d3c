"""The embedded node's secrets: made once, agreed by all first starts, readable by their owner only."""

import os
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from qhronos_core.adapters.local.secrets import DataDirectoryError, ensure_data_dir, ensure_secrets
from qhronos_core.config import is_at_rest_key

NAMES = ("master_token", "jwt_secret", "at_rest_key")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(data_dir: Path) -> str:
    with pytest.raises(DataDirectoryError) as caught:
        ensure_secrets(data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_first_start_makes_three_strong_secrets_only_their_owner_can_read(tmp_path: Path) -> None:
    os.umask(os.umask(0))  # whatever it is, it is not relied on
    secrets = ensure_secrets(tmp_path / "deep" / "data")
    directory = tmp_path / "deep" / "data" / "secrets"
    texts = {(directory / name).read_text().strip() for name in NAMES}
    assert len(texts) == 3
    assert all(len(text) == 43 for text in texts)
    assert is_at_rest_key(secrets.at_rest_key.get_secret_value())
    assert secrets.made == tuple(directory / name for name in NAMES)
    assert mode_of(directory.parent) == mode_of(directory) == 0o700
    assert {mode_of(file) for file in directory.iterdir()} == {0o600}
    assert not any(text in repr(secrets) for text in texts)


def test_a_later_start_finds_the_same_and_makes_nothing(tmp_path: Path) -> None:
    first = ensure_secrets(tmp_path / "data")
    again = ensure_secrets(tmp_path / "data")
    assert again.made == ()
    assert (again.master_token, again.jwt_secret, again.at_rest_key) == (
        first.master_token,
        first.jwt_secret,
        first.at_rest_key,
    )


def test_what_is_configured_is_taken_and_not_written_down(tmp_path: Path) -> None:
    secrets = ensure_secrets(tmp_path / "data", master_token=SecretStr("configured"), jwt_secret=SecretStr("too"))
    assert (secrets.master_token.get_secret_value(), secrets.jwt_secret.get_secret_value()) == ("configured", "too")
    assert secrets.made == (tmp_path / "data" / "secrets" / "at_rest_key",)


def test_first_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from qhronos_core.adapters.local.secrets import ensure_secrets as e;"
        "s = e(Path(sys.argv[1])); print(*(getattr(s, n).get_secret_value() for n in ('master_token', 'at_rest_key')))"
    )

    def start(_: int) -> str:
        command = [sys.executable, "-c", program, str(tmp_path / "data")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(6) as starts:
        assert len(set(starts.map(start, range(6)))) == 1


def test_a_start_killed_while_writing_leaves_nothing_a_later_one_trips_over(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "secrets"
    directory.mkdir(parents=True)
    (tmp_path / "data").chmod(0o700)
    directory.chmod(0o700)
    (directory / ".master_token.new").write_text("hal")
    assert len(ensure_secrets(tmp_path / "data").master_token.get_secret_value()) == 43


@pytest.mark.parametrize("name", [".", *NAMES])
def test_wider_permissions_are_refused_with_the_command_that_mends_them(name: str, tmp_path: Path) -> None:
    ensure_secrets(tmp_path / "data")
    path = tmp_path / "data" / "secrets" / name
    right = mode_of(path)
    path.chmod(right | 0o040)
    command = refused(tmp_path / "data").split(": ", 1)[1]
    assert command == f"chmod {right:o} '{path}'"
    subprocess.run(command, shell=True, check=True)
    ensure_secrets(tmp_path / "data")


def test_a_data_directory_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert f"chmod go-w '{tmp_path}'" in refused(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_refused_and_left_as_it_is(name: str, tmp_path: Path) -> None:
    ensure_secrets(tmp_path / "data")
    path = tmp_path / "data" / "secrets" / name
    path.write_text("half-a-sec")
    said = refused(tmp_path / "data")
    assert str(path) in said
    assert "half-a-sec" not in said
    assert path.read_text() == "half-a-sec"


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "is not a directory; choose another with QHRONOS_DATA_DIR" in refused(tmp_path / "data")
    assert "QHRONOS_DATA_DIR" in refused(tmp_path / "data" / "below")


def test_a_data_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        other = Path("/")
    else:
        other = tmp_path / "data"
        other.mkdir()
        os.chown(other, 65534, 65534)
    with pytest.raises(DataDirectoryError, match="belongs to another user"):
        ensure_data_dir(other)


def test_a_read_only_data_directory_is_refused_with_its_path() -> None:
    program = (
        "import os, sys; from pathlib import Path; from qhronos_core.adapters.local.secrets import ensure_data_dir\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"  # to root nothing is read-only
        "ensure_data_dir(Path(sys.argv[1]))"
    )
    with tempfile.TemporaryDirectory(prefix="qhronos-") as made:
        Path(made).chmod(0o755)
        data_dir = Path(made) / "data"
        data_dir.mkdir(mode=0o500)
        if os.geteuid() == 0:
            os.chown(data_dir, 65534, 65534)
        command = [sys.executable, "-c", program, str(data_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{data_dir} cannot be written" in done.stderr
    assert "QHRONOS_DATA_DIR" in done.stderr
