"""S52: the document and the running app say the same, and what it promises holds for whatever is sent."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from starlette.routing import Route

from qhronos_mcp import __version__
from qhronos_mcp.problems import TITLES
from qhronos_mcp.rest import schemas
from qhronos_mcp.rest.resource import Resource
from qhronos_mcp.rest.routes import OPERATIONS, openapi_document
from tests.faces.rest.house import House

ROOT: Final = Path(__file__).parents[3]


def served(house: House) -> set[tuple[str, str]]:
    return {
        (method, route.path)
        for route in house.app.routes
        if isinstance(route, Route) and isinstance(route.endpoint, Resource)
        for method in route.endpoint.operations
    }


async def test_the_document_is_the_route_table(house: House) -> None:
    document = (await house.client().get("/openapi.json")).json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == served(house)
    assert document["openapi"].startswith("3.1")
    assert document == openapi_document()


async def test_each_described_path_answers_each_described_method_and_no_other(house: House) -> None:
    for path, methods in openapi_document()["paths"].items():
        filled = re.sub(r"\{\w+\}", "00000000-0000-7000-8000-000000000000", path)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = await house.master.request(method, filled)
            assert (answer.status_code != 405) == (method.lower() in methods), (method, path)


def test_every_parameter_schema_and_answer_is_described() -> None:
    document = openapi_document()
    identifiers = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            identifiers.add(operation["operationId"])
            assert operation["summary"]
            assert operation["description"]
            names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert names == set(re.findall(r"\{(\w+)\}", path))
            assert any(status.startswith("2") for status in operation["responses"])
            for status, answer in operation["responses"].items():
                assert answer["content"], (method, path, status)
                if int(status) >= 400:
                    assert answer["description"] == TITLES[int(status)]
            if operation["security"] != []:
                assert {"401", "429"} <= operation["responses"].keys()
            assert {"500", "503"} <= operation["responses"].keys()
    assert len(identifiers) == len(OPERATIONS)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    document = openapi_document()
    for schema in schemas.COMPONENTS.values():
        Draft202012Validator.check_schema(schema)
    for name in re.findall(r"#/components/schemas/(\w+)", str(document)):
        assert name in document["components"]["schemas"]


def test_examples_are_what_their_schema_says() -> None:
    document = openapi_document()
    for methods in document["paths"].values():
        for operation in methods.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                schema = {**media["schema"], "components": document["components"]}
                for example in media.get("examples", {}).values():
                    Draft202012Validator(schema).validate(example["value"])


def test_the_words_of_the_document_are_those_of_the_domain() -> None:
    from qhronos_core.domain.event import EventStatus
    from qhronos_core.domain.lifecycle import State
    from qhronos_core.domain.occurrence import AttemptOutcome, Cause, Reason

    assert set(schemas.EVENT_STATUS) == {status.value for status in EventStatus}
    assert set(schemas.STATES) == {state.value for state in State}
    assert set(schemas.REASONS) == {reason.value for reason in Reason}
    assert set(schemas.OCCURRENCE["properties"]["cause"]["enum"]) == {cause.value for cause in Cause}
    assert set(schemas.ATTEMPT["properties"]["outcome"]["enum"]) == {outcome.value for outcome in AttemptOutcome}


def test_every_field_that_may_be_written_is_described() -> None:
    from qhronos_core.domain.draft import ANSWER_ONLY, WRITABLE

    described = schemas.NEW_EVENT["properties"].keys() | schemas.EVENT_CHANGES["properties"].keys()
    assert described == set(WRITABLE) | ANSWER_ONLY


async def test_what_is_answered_is_what_is_described(house: House) -> None:
    """Every member of an answer is in its schema: nothing is told that the document does not know of."""
    row = await house.failed_occurrence()
    inbox = await house.inbox_occurrence()
    await house.token("read", ["user:a"])
    shown: list[tuple[str, Any]] = [
        ("Event", (await house.master.get(f"/events/{row['event_id']}")).json()),
        (
            "Event",
            (await house.master.post("/events", json={"name": "a", "schedule": "@daily", "webhook": "q:x"})).json(),
        ),
        ("Occurrence", row),
        ("Occurrence", inbox),
        ("Attempt", (await house.master.get(f"/occurrences/{row['id']}/attempts?include=response")).json()[0]),
        ("Preview", (await house.master.get(f"/events/{inbox['event_id']}/preview")).json()),
        ("Token", (await house.master.get("/tokens")).json()[0]),
        ("AuditEntry", (await house.master.get("/audit")).json()[0]),
        ("Status", (await house.master.get("/status")).json()),
        ("Problem", (await house.master.get("/events/x")).json()),
        ("Problem", (await house.client().get("/events")).json()),
    ]
    for name, value in shown:
        schema = schemas.COMPONENTS[name]
        Draft202012Validator({**schema, "components": {"schemas": schemas.COMPONENTS}}).validate(value)
        assert value.keys() <= schema["properties"].keys(), name


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project.get("version", __version__) == __version__


async def test_docs_is_one_page_that_loads_nothing_from_elsewhere(house: House) -> None:
    answer = await house.client().get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    page = answer.text
    for operation in OPERATIONS:
        assert f"<code>{operation.method} {operation.path}</code>" in page
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(address.startswith(("/", "#")) for address in loaded)
    assert "<script" not in page
    assert "style=" not in page
