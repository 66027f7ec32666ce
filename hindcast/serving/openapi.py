"""What the service says of itself: its routes, forms and errors as OpenAPI 3.1. Answers nothing.

BentoML's own description loses what may be null, knows no GET, and tells of errors that the guard words otherwise.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hindcast.package.model import Signature
from hindcast.problem import Problem
from hindcast.serving.answer_form import ProblemDetails, answer_form, batch_answer_form, explained_form, model_form

_REFERENCE = "#/components/schemas/{model}"
_ALWAYS = {
    431: "The request's head (its address and headers) is too long.",
    500: "The service failed; its log says why.",
    504: "There was no answer in time.",
}
_ASKING = {
    400: "The request breaks the form; each field that does is named.",
    408: "The request didn't come in in time.",
    413: "The body is too long, or the batch holds too many requests.",
    415: "The body isn't JSON by its media type.",
    429: "Too many requests are being answered; come again.",
    503: "No answer can be given now, whatever is asked.",
}
_HEADERS = {401: "www-authenticate", 429: "retry-after"}


def openapi(
    problem: Problem, signature: Signature, request: type[BaseModel], batch: type[BaseModel], with_tokens: bool
) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        problem: Gives the service its name and its description.
        signature: Of the model that serves: what its answers hold.
        request: Form of a request, of `request_form`.
        batch: Form of many, of `batch_form`.
        with_tokens: Whether callers must send a token; else only those of the same machine are answered.
    """
    refusal = {401: "No token that is known."} if with_tokens else {403: "Not from this machine, and without a token."}
    looking, asking = refusal | _ALWAYS, refusal | _ALWAYS | _ASKING
    if problem.serving.unknown_entity == "refuse":
        asking |= {404: "It is about something that is in no table."}
    answer, model = answer_form(signature), model_form(signature)
    explained, answers = explained_form(signature, answer), batch_answer_form(answer)
    said: list[Any] = [(form, "serialization") for form in (answer, explained, answers, model, ProblemDetails)]
    _, schemas = models_json_schema([(batch, "validation"), *said], ref_template=_REFERENCE)
    # In their places as a whole: what draws a form from a description needn't look references up.
    one, many = (form.model_json_schema(ref_template=_REFERENCE) for form in (request, batch))
    many.pop("$defs")
    given = f"The answer to one question: {', '.join(signature.kind.answer_form())}."
    paths = {
        "/predict": {"post": _operation("predict", given, answer, asking, one)},
        "/explain": {"post": _operation("explain", "As predict, and what moved it.", explained, asking, one)},
        "/predict_batch": {"post": _operation("predict_batch", "As predict, for many.", answers, asking, many)},
        "/model": {"get": _operation("model", "The model that serves.", model, looking)},
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": problem.name, "description": problem.question, "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }
    if with_tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(
    name: str, summary: str, answer: type[BaseModel], errors: Mapping[int, str], body: dict[str, Any] | None = None
) -> dict[str, Any]:
    responses = {"200": {"description": "The answer.", "content": _content("application/json", answer.__name__)}}
    for status, meaning in sorted(errors.items()):
        responses[str(status)] = {
            "description": meaning,
            "content": _content("application/problem+json", ProblemDetails.__name__),
        }
        if status in _HEADERS:
            responses[str(status)]["headers"] = {_HEADERS[status]: {"required": True, "schema": {"type": "string"}}}
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _content(kind: str, schema: str) -> dict[str, Any]:
    return {kind: {"schema": {"$ref": _REFERENCE.format(model=schema)}}}
