"""What is installed is what was tested: every dependency is locked, with hashes, in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-test.lock": PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"],
}


def pinned_in(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.M)}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_every_dependency_at_a_version_the_project_accepts(lock: str) -> None:
    pinned = pinned_in(lock)
    wanted = [Requirement(line) for line in LOCKS[lock]]
    astray = [
        str(requirement)
        for requirement in wanted
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert astray == [], "run scripts/lock.sh"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_has_hashes(lock: str) -> None:
    entries = re.split(r"^(?=[A-Za-z])", (ROOT / lock).read_text(encoding="utf-8"), flags=re.M)[1:]
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_tests_run_with_what_is_served() -> None:
    served, tested = pinned_in("requirements.lock"), pinned_in("requirements-test.lock")
    assert {name: version for name, version in served.items() if tested.get(name) != version} == {}


def test_no_committed_file_names_an_index() -> None:
    for lock in LOCKS:
        assert not re.search(r"^--(index|extra-index|find-links|trusted-host)|://", (ROOT / lock).read_text(), re.M)
