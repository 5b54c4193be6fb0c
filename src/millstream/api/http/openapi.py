"""OpenAPI 3.1, made from the endpoints that are served."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, assert_never

import msgspec

from millstream.api.http.endpoint import Auth, Endpoint, Parameter, Request, Response
from millstream.domain.errors import (
    AdminHeaderUnreadable,
    AdminKeyMissing,
    AdminKeyWrong,
    AdminNotConfigured,
    InternalError,
    InvalidCredential,
    InvalidField,
    InvalidJson,
    InvalidShape,
    MillstreamError,
    PayloadTooLarge,
    RateLimited,
    RequestTimeout,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from millstream.domain.problems import problem_of

Json = dict[str, "JsonValue"]
JsonValue = str | int | float | bool | None | list["JsonValue"] | Json

_REF_TEMPLATE: Final = "#/components/schemas/{name}"
_ALWAYS: Final[tuple[type[MillstreamError], ...]] = (RequestTimeout, RateLimited, InternalError, Unavailable)
_WITH_BEARER: Final[tuple[type[MillstreamError], ...]] = (Unauthenticated, InvalidCredential)
_WITH_ADMIN_KEY: Final[tuple[type[MillstreamError], ...]] = (
    AdminNotConfigured,
    AdminKeyMissing,
    AdminHeaderUnreadable,
    AdminKeyWrong,
)
_WITH_BODY: Final[tuple[type[MillstreamError], ...]] = (
    InvalidJson,
    InvalidField,
    InvalidShape,
    PayloadTooLarge,
    UnsupportedMediaType,
)
_PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")


class OpenApiEndpoint:
    """Serves the document of `endpoints` at `path`; `problem_type` is the body of their refusals."""

    def __init__(self, path: str, endpoints: Sequence[Endpoint], problem_type: type[msgspec.Struct]) -> None:
        self._path = path
        self._endpoints = [*endpoints, self.endpoint()]
        self._problem_type = problem_type
        self._document = b""

    def endpoint(self) -> Endpoint:
        """Return the endpoint that serves the document."""
        return Endpoint(
            method="GET",
            path=self._path,
            handler=self.get,
            summary="This document",
            tag="meta",
            answers={200: dict[str, msgspec.Raw]},
            auth=Auth.OPEN,
        )

    async def get(self, request: Request) -> Response:
        """Return the document, made at the first request."""
        if not self._document:
            self._document = msgspec.json.encode(openapi_document(self._endpoints, self._problem_type))
        return Response(200, self._document)


def openapi_document(endpoints: Sequence[Endpoint], problem_type: type[msgspec.Struct]) -> Json:
    """Return the OpenAPI document of `endpoints`."""
    types: list[object] = [problem_type]
    for endpoint in endpoints:
        if endpoint.body is not None:
            types.append(endpoint.body.type)
        types += [answer for answer in endpoint.answers.values() if answer is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF_TEMPLATE)
    # A Raw is any JSON; the library describes it as an empty schema already.
    schema_of = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: Json = {}
    for endpoint in endpoints:
        item = paths.setdefault(endpoint.path, {})
        assert isinstance(item, dict)
        item[endpoint.method.lower()] = _operation(endpoint, schema_of, schema_of[repr(problem_type)])
    return {
        "openapi": "3.1.0",
        "info": {"title": "millstream", "version": "1", "summary": "Durable jobs on PostgreSQL"},
        "paths": paths,
        "components": {
            "schemas": dict(components),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "adminKey": {"type": "apiKey", "in": "header", "name": "X-Admin-Key"},
                "webhookToken": {"type": "apiKey", "in": "header", "name": "X-Webhook-Token"},
            },
        },
    }


def _operation(endpoint: Endpoint, schema_of: dict[str, Json], problem: Json) -> Json:
    operation: Json = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [*_path_parameters(endpoint), *(_query_parameter(one) for one in endpoint.query)],
        "responses": _responses(endpoint, schema_of, problem),
        "security": _security(endpoint.auth),
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": endpoint.body.required,
            "content": {"application/json": {"schema": schema_of[repr(endpoint.body.type)]}},
        }
    if endpoint.extension:
        operation["x-millstream-extension"] = True
    return operation


def _security(auth: Auth) -> list[JsonValue]:
    match auth:
        case Auth.BEARER:
            return [{"bearer": []}]
        case Auth.REGISTRATION:
            # Either of them: whether the first is enough depends on the server's settings.
            return [{}, {"adminKey": []}]
        case Auth.ADMIN:
            return [{"adminKey": []}]
        case Auth.WEBHOOK:
            # A provider's signature is in a header that only the provider can make.
            return [{}, {"webhookToken": []}]
        case Auth.OPEN:
            return []
        case _:
            assert_never(auth)


def _operation_id(endpoint: Endpoint) -> str:
    return "_".join([endpoint.method.lower(), *re.findall(r"[a-z0-9]+", endpoint.path)])


def _path_parameters(endpoint: Endpoint) -> list[JsonValue]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(endpoint.path)
    ]


def _query_parameter(parameter: Parameter) -> JsonValue:
    schema: Json = {"type": parameter.kind}
    if parameter.kind == "timestamp":
        schema = {"type": "string", "format": "date-time"}
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.description,
        "schema": schema,
    }


def _responses(endpoint: Endpoint, schema_of: dict[str, Json], problem: Json) -> Json:
    responses: Json = {}
    for status, answer in endpoint.answers.items():
        response: Json = {"description": HTTPStatus(status).phrase}
        if answer is not None:
            response["content"] = {"application/json": {"schema": schema_of[repr(answer)]}}
        responses[str(status)] = response
    codes: dict[int, set[str]] = {}
    for kind in refusals_of(endpoint):
        refusal = problem_of(kind)
        codes.setdefault(refusal.http_status, set()).add(refusal.code)
    for status in sorted(codes):
        responses[str(status)] = {
            "description": ", ".join(sorted(codes[status])),
            "content": {"application/json": {"schema": problem}},
        }
    return responses


def refusals_of(endpoint: Endpoint) -> tuple[type[MillstreamError], ...]:
    """Return every class of errors that `endpoint` may answer with."""
    bearer = _WITH_BEARER if endpoint.auth is Auth.BEARER else ()
    body = _WITH_BODY if endpoint.body is not None else ()
    admin = _WITH_ADMIN_KEY if endpoint.auth is Auth.ADMIN else ()
    return (*_ALWAYS, *bearer, *admin, *body, *endpoint.errors)
