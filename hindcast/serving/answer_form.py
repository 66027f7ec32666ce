"""The typed forms of what the service says, made from a model's signature: what only a task knows, the task names.

What an answer holds is decided in `predict`; the form of a request is `request_form`'s.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, create_model

from hindcast.package.model import Signature

_CONFIG = ConfigDict(protected_namespaces=())


class ProblemDetails(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def answer_form(signature: Signature) -> type[BaseModel]:
    """The form of what comes out of one request."""
    fields: dict[str, Any] = {
        "id": (str, "Of the record in the log."),
        "prediction_time": (AwareDatetime, "As asked, in UTC."),
        **signature.kind.answer_form(),
        "model_version": (str, None),
        "snapshot": (int | None, "Of the lake, from which the model was trained."),
        "feature_times": (
            dict[str, AwareDatetime | None],
            "Per feature view: since when the values that were used have been known.",
        ),
        "missing_or_stale": (list[str], "Feature views without a row that is recent enough."),
        "unknown_categories": (list[str], "Features whose value the model has never seen."),
        "unknown_keys": (list[str], "Join keys of which no feature view has a usable row: they may be in no table."),
        "warning": (str | None, "Where most feature views have no usable row: what is missing, and when."),
    }
    return _form("Answer", "What comes out of one request.", fields)


def explained_form(signature: Signature, answer: type[BaseModel]) -> type[BaseModel]:
    """The form of an answer with what moved it: numbers where there is one raw score, else objects by score."""
    task = signature.kind
    numbers: Any = float if len(task.scores) == 1 else dict[str, float]
    contribution = _form(
        "Contribution",
        "What one feature adds to the raw score.",
        {
            "feature": (str, None),
            "value": (Any, "As the model saw it; null where it was missing."),
            "contribution": (numbers, f"In {task.score_unit}, up or down."),
        },
    )
    base = Field(
        description=f"The raw score ({task.score_unit}) where nothing is known.",
        json_schema_extra={"x-unit": task.score_unit},
    )
    return create_model(
        "Explained",
        __doc__="An answer, and what moved it.",
        __base__=answer,
        base=(numbers, base),
        raw_score=(numbers, Field(description="Of this answer: base and contributions add up to it.")),
        tolerance=(float, Field(description="By how much raw_score may differ from what the answer itself says.")),
        contributions=(
            list[contribution],  # type: ignore[valid-type]
            Field(description="Shapley values of all features, most moving first."),
        ),
    )


def batch_answer_form(answer: type[BaseModel]) -> type[BaseModel]:
    """The form of what comes out of a batch."""
    answers: Any = list[answer | ProblemDetails]  # type: ignore[valid-type]
    fields = {
        "answers": (answers, "In the order of the requests."),
        "failed": (int, "How many of them are problems."),
    }
    return _form("BatchAnswer", "What comes out of a batch.", fields)


def model_form(signature: Signature) -> type[BaseModel]:
    """The form of what is said of the model that serves."""
    fields: dict[str, Any] = {
        "problem": (str, None),
        "version": (str, None),
        "snapshot": (int | None, None),
        "as_of": (str | None, "The instant that it was made as of: nothing known later was used."),
        "promoted_at": (str | None, "Null for the model that was built into the bento."),
        **signature.kind.calibration_form(),
        "label": (str, None),
        "feature_service": (str, None),
        "request_fields": (list[str], None),
        "metrics": (dict[str, Any], None),
        "card": (str, "The model card, in Markdown."),
        "refused": (str | None, "Why a newer champion isn't served."),
        "shadow": (dict[str, Any] | None, "The challenger in shadow: its answers are logged, never returned."),
    }
    return _form("Model", "The model that serves.", fields)


def _form(name: str, what: str, fields: Mapping[str, tuple[Any, str | None]]) -> type[BaseModel]:
    described: dict[str, Any] = {
        field: (kind, Field(description=description)) for field, (kind, description) in fields.items()
    }
    return create_model(name, __doc__=what, __config__=_CONFIG, **described)
