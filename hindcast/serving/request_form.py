"""The typed form of a request, made from a model's signature: another problem gets its own without new code.

What is done with a request is in `predict`; what comes out of it in `answer_form`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from hindcast.package.model import Signature

_TEXT = Annotated[str, Field(max_length=1000)]
# pydantic would take seconds since 1970, too; and not every table holds instants of other years.
_INSTANT_PATTERN = r"^(1[7-9]|2[01])\d{2}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}"
_MOST_FAULTS, _LONGEST_NAME = 10, 100  # in an error: its text is truncated


def _only_text(value: Any) -> Any:
    if isinstance(value, str) and re.match(_INSTANT_PATTERN, value):
        return value
    raise ValueError("should be text, an instant of the years 1700 to 2199 as in 2024-05-01T12:00:00Z")


def _not_blank(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; a key names something (a join key that isn't known is null)")
    return value


def _whole(value: Any) -> Any:
    """JSON knows no integers, only numbers without a fraction: 2.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Not strict, for a batch's rows are no longer JSON when they are checked, one by one.
_INSTANT = Annotated[
    AwareDatetime, Field(strict=False, json_schema_extra={"pattern": _INSTANT_PATTERN}), BeforeValidator(_only_text)
]
_WHOLE_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_FORMS: dict[str, Any] = {
    "VARCHAR": _TEXT,
    "DOUBLE": FiniteFloat,
    "FLOAT": FiniteFloat,
    "BOOLEAN": bool,
    **{
        name: Annotated[int, Field(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1), BeforeValidator(_whole)]
        for name, bits in _WHOLE_BITS.items()
    },
}


def _in_one_sentence(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:
        raise ValueError("should be text of at most 1000 characters, a finite number, true or false") from None


_PLAIN = _TEXT | _FORMS["BIGINT"] | FiniteFloat | bool
_ANY = Annotated[_PLAIN, WrapValidator(_in_one_sentence)]  # type: ignore[valid-type]


@dataclass(frozen=True)
class Fault:
    """A request of a batch that can't be answered, and why."""

    detail: str


def request_form(
    signature: Signature, types: Mapping[str, str], example: Mapping[str, Any] | None = None
) -> type[BaseModel]:
    """The form of one request.

    Args:
        signature: Of the model that serves.
        types: By field, the type of its column in the lake (`VARCHAR`, `INTEGER`, …); a field without one takes any.
        example: By field, the value of a real entity, for people who look at the form; its `prediction_time`, too.

    Returns:
        A strict form that forbids unknown fields: the entity's key, the join keys and the request fields, all
        of which must be there (all but the entity's key may be null, where the fact isn't known), then
        `prediction_time` and `request_id`.
    """
    fields: dict[str, Any] = {}
    for name in dict.fromkeys((signature.entity_key, *signature.join_keys, *signature.request_fields)):
        kind = _FORMS.get(types.get(name, ""), _ANY)
        shown = [example[name]] if example and name in example else None
        if name in (signature.entity_key, *signature.join_keys) and kind in (_TEXT, _ANY):
            kind = Annotated[kind, Field(json_schema_extra={"pattern": r"\S"}), BeforeValidator(_not_blank)]
        if name == signature.entity_key:
            fields[name] = (kind, Field(description=f"Names the {signature.entity}.", examples=shown))
        else:
            fields[name] = (kind | None, Field(description="Null where it isn't known.", examples=shown))
    fields["prediction_time"] = (
        _INSTANT | None,
        Field(
            default=None,
            description="When the question is asked, with a time zone, as in 2024-05-01T12:00:00Z: nothing known "
            "later is used. Left out: the home's clock, which isn't the machine's where time is simulated. "
            "In the example: until when the features in the online store are known.",
            examples=[example["prediction_time"]] if example and example.get("prediction_time") else None,
        ),
    )
    fields["request_id"] = (
        Annotated[str, Field(min_length=1, max_length=100)] | None,
        Field(default=None, description="Asking again with the same id makes no second row in the log."),
    )
    return create_model(
        "Request", __config__=ConfigDict(strict=True, extra="forbid", protected_namespaces=()), **fields
    )


def batch_form(form: type[BaseModel], max_batch: int) -> type[BaseModel]:
    """The form of many requests: a row that breaks the form becomes a `Fault`, and the others stand.

    More than `max_batch` rows are left as they came: they aren't to be answered, and checking them takes time.
    """

    def keep_fault(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(value)
        except ValidationError as error:
            return Fault(form_errors(error))

    def leave_too_many(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, list) and len(value) > max_batch else check(value)

    rows = Annotated[
        list[Annotated[form, WrapValidator(keep_fault)]],  # type: ignore[valid-type]
        WrapValidator(leave_too_many),
        Field(json_schema_extra={"maxItems": max_batch}),
    ]
    return create_model(
        "Batch",
        __config__=ConfigDict(strict=True, extra="forbid"),
        requests=(rows, Field(description="Each is answered by itself; the order is kept.")),
    )


def form_errors(error: ValidationError) -> str:
    """What is wrong with a request, in one line that names each field; of many, the first few and how many more."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    more = len(faults) - _MOST_FAULTS
    shown = [
        f"{_shortened('.'.join(map(str, fault['loc'])) or 'body')}: {_plain(fault)}" for fault in faults[:_MOST_FAULTS]
    ]
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def _plain(fault: Mapping[str, Any]) -> str:
    known = {
        "missing": "missing field",
        "extra_forbidden": "unknown field",
        "model_type": "should be an object",
    }
    return known.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
