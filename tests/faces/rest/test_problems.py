"""rest.md §4: every error body, and that each kind has its number."""

from datetime import UTC, datetime

import pydantic
import pytest

from qhronos_core.domain import errors
from qhronos_mcp.problems import Problem, describe

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def every(kind: type[errors.QhronosError]) -> set[type[errors.QhronosError]]:
    return {kind}.union(*(every(leaf) for leaf in kind.__subclasses__()))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidInputError.of("name", "Empty."), 400, "invalid_argument"),
        (errors.InvalidInputError.of("schedule", "Never.", code="never_happens"), 400, "never_happens"),
        (errors.TooLargeError.of("body", "Over 1 MiB."), 413, "too_large"),
        (errors.UnauthenticatedError(), 401, "unauthenticated"),
        (errors.ForbiddenError(), 403, "forbidden"),
        (errors.EventNotFoundError(), 404, "event_not_found"),
        (errors.KeyTakenError(), 409, "key_taken"),
        (errors.LimitedError(0.2), 429, "rate_limited"),
        (errors.StoreUnavailableError(), 503, "store_unavailable"),
        (RuntimeError("SELECT secret FROM place"), 500, "internal"),
        (errors.QhronosError("a kind nobody mapped"), 500, "internal"),
    ],
)
def test_each_kind_has_its_status_and_each_leaf_its_code(error: Exception, status: int, code: str) -> None:
    problem = describe(error)
    assert (problem.status, problem.code) == (status, code)


def test_every_leaf_of_the_tree_is_described() -> None:
    mapped = (400, 401, 403, 404, 409, 413, 429, 503)
    for leaf in every(errors.QhronosError) - {errors.QhronosError}:
        if leaf.__module__ == errors.__name__:
            assert describe(_any(leaf)).status in mapped


def _any(leaf: type[errors.QhronosError]) -> errors.QhronosError:
    for arguments in ((), ("x",), (1.0,)):
        try:
            return leaf(*arguments)
        except TypeError:
            continue
    raise AssertionError(leaf)


def test_a_crash_is_told_without_a_word_of_its_own() -> None:
    assert "SELECT" not in str(describe(RuntimeError("SELECT secret")).document(NOON))


def test_the_document_is_the_one_of_the_specification() -> None:
    fix: tuple[dict[str, object], ...] = ({"schedule": "0 0 28 2 *"}, {"schedule": "0 0 L 2 *"})
    error = errors.InvalidInputError.of(
        "schedule", "February has no day 30.", code="never_happens", got="0 0 30 2 *", fix=fix
    )
    assert describe(error).document(datetime(2026, 11, 23, 15, tzinfo=UTC)) == {
        "error": "schedule: February has no day 30.",
        "type": "urn:qhronos:problem:never_happens",
        "title": "Invalid input",
        "status": 400,
        "detail": "schedule: February has no day 30.",
        "code": "never_happens",
        "now": "2026-11-23T15:00:00Z",
        "errors": [
            {
                "field": "schedule",
                "code": "never_happens",
                "got": "0 0 30 2 *",
                "why": "February has no day 30.",
                "fix": list(fix),
            }
        ],
    }


def test_two_errors_of_one_second_are_the_same_to_the_byte() -> None:
    early, late = (NOON.replace(microsecond=part) for part in (0, 987_650))
    error = errors.EventNotFoundError()
    assert describe(error).document(early) == describe(error).document(late)


def test_the_callers_input_is_repeated_up_to_200_characters() -> None:
    for got in ("x" * 5000, ["y" * 5000], {"z": "z" * 300}):
        shown = describe(errors.InvalidInputError.of("name", "Too long.", got=got)).document(NOON)["errors"][0]["got"]
        assert isinstance(shown, str)
        assert len(shown) == 200
    assert describe(errors.InvalidInputError.of("n", "No.", got=[1])).document(NOON)["errors"][0]["got"] == [1]


def test_ten_faults_at_most_are_listed() -> None:
    faults = [errors.Fault(f"f{number}", "bad", "No.") for number in range(30)]
    assert len(describe(errors.InvalidInputError(faults=faults)).document(NOON)["errors"]) == 10


@pytest.mark.parametrize(("wait", "told"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (59.5, 60)])
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(wait: float, told: int) -> None:
    assert describe(errors.LimitedError(wait)).retry_after == told


def test_the_tool_shape_holds_the_first_fault_and_its_corrections() -> None:
    problem = Problem(400, "c", "Why.", (errors.Fault("f", "c", "why", fix=({"f": 1}, {"f": 2}, {"f": 3}, {"f": 4})),))
    assert problem.body() == {"error": "Why.", "code": "c", "field": "f", "fix": [{"f": 1}, {"f": 2}, {"f": 3}]}
    assert problem.line == 'Why. Try {"f": 1}.'


def test_a_model_that_refuses_its_input_is_described_in_our_words() -> None:
    class Asked(pydantic.BaseModel, extra="forbid"):
        seconds: int

    with pytest.raises(pydantic.ValidationError) as refused:
        Asked.model_validate({"seconds": "canary", "stranger": 1})
    shown = describe(refused.value).document(NOON)
    assert shown["status"] == 400
    assert [fault["field"] for fault in shown["errors"]] == ["seconds", "stranger"]
    assert "canary" not in str(shown)
    assert "pydantic" not in str(shown)
