import re
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import schemathesis
from schemathesis.core.result import Ok

from millstream.api.http.openapi import openapi_document, refusals_of
from millstream.api.http.settings import HttpSettings
from millstream.api.spooled.problems import ProblemBody
from millstream.api.spooled.rest import spooled_endpoints
from millstream.domain.problems import problem_of
from millstream.engine.engine import Engine

# Endpoints are declared without an engine; nothing here calls one.
NOUNS = (
    "jobs",
    "queues",
    "schedules",
    "workers",
    "tenants",
    "usage",
    "admin",
    "admin_access",
    "api_keys",
    "tokens",
    "sign_ins",
    "credentials",
    "health",
    "workflows",
    "dependencies",
    "dashboard",
    "ingest",
    "outgoing_webhooks",
)
ENDPOINTS = spooled_endpoints(
    cast("Engine", SimpleNamespace(**dict.fromkeys(NOUNS, "anything"))), HttpSettings()
)
DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(openapi_document(ENDPOINTS, ProblemBody)))


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    return set()


def test_the_document_is_read_by_a_tool_for_such_documents():
    schema = schemathesis.openapi.from_dict(DOCUMENT)

    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert {(operation.method.upper(), operation.path) for operation in operations} == {
        (endpoint.method, endpoint.path) for endpoint in ENDPOINTS
    }


def test_every_reference_leads_somewhere():
    names = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

    assert references(DOCUMENT) <= names


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_every_endpoint_documents_its_parameters_and_all_its_statuses(endpoint):
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]

    in_path = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
    assert in_path == re.findall(r"\{(\w+)\}", endpoint.path)
    statuses = {problem_of(kind).http_status for kind in refusals_of(endpoint)} | set(endpoint.answers)
    assert set(operation["responses"]) == {str(status) for status in statuses}
    assert ("requestBody" in operation) == (endpoint.body is not None)
    assert operation.get("x-millstream-extension", False) == endpoint.extension
    assert endpoint.summary


def test_operation_ids_are_unique():
    ids = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]

    assert len(set(ids)) == len(ids)


def test_the_settle_extension_is_marked_as_ours():
    assert DOCUMENT["paths"]["/api/v1/jobs/settle"]["post"]["x-millstream-extension"] is True


def test_an_opaque_field_takes_any_json():
    assert DOCUMENT["components"]["schemas"]["CreateJob"]["properties"]["payload"] == {}


def test_whether_an_endpoint_asks_for_a_credential_is_documented():
    assert DOCUMENT["paths"]["/api/v1/jobs"]["post"]["security"] == [{"bearer": []}]
    assert DOCUMENT["paths"]["/api/v1/organizations"]["post"]["security"] == [{}, {"adminKey": []}]
    named = {
        name
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for one in operation["security"]
        for name in one
    }
    assert named == set(DOCUMENT["components"]["securitySchemes"])
