"""What is to be predicted, as a strict, frozen form of one file under `problems/`. No logic beyond validation.

Everything that differs between problems and isn't SQL or a feature view stands here; an unknown key, a
missing one or a wrong type is an error that names the key and the file.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hindcast import unique_yaml
from hindcast.errors import HindcastError

Form = TypeVar("Form", bound=BaseModel)


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("needs a time zone; write …Z for UTC")
    return value.astimezone(UTC)


# The lake's other schemas: a problem's own tables are in one of its name.
_SCHEMAS = (
    "raw",
    "known",
    "control",
    "cleaned",
    "labeled",
    "split",
    "features",
    "inputs",
    "feature_views",
    "log",
    "main",
    "information_schema",
)
_UNITS = {"second": "seconds", "minute": "minutes", "hour": "hours", "day": "days", "week": "weeks"}


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+) (second|minute|hour|day|week)s?", value)):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError("write a number and seconds, minutes, hours, days or weeks, as in '2 hours'")


def _offset(value: str) -> str:
    if not re.fullmatch(r"(0|-\d+) (month|week|day|hour)s?", value):
        raise ValueError("write how long before the as-of instant, as in '-2 months', or '0 months'")
    return value


def _schema(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", value) or value in _SCHEMAS:
        raise ValueError(f"{value!r}: write small letters, digits and underscores, and none of {', '.join(_SCHEMAS)}")
    return value


Instant = Annotated[datetime, AfterValidator(_in_utc)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Offset = Annotated[str, AfterValidator(_offset)]


class Strict(BaseModel):
    """A form in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Entity(Strict):
    """What one prediction is about."""

    name: str = Field(description="What people call one, as in order.")
    key: str = Field(description="Column that names one entity row, unique in the labeled table.")
    description: str = Field(default="", description="What one row is, in a sentence.")


class PredictionTime(Strict):
    """When the question is asked. Nothing known later may be used."""

    column: str = Field(description="Column of the labeled table, an instant in UTC.")
    description: str = Field(description="When that is, in a sentence.")


class Label(Strict):
    """What is predicted, and when the truth about it is known."""

    column: str = Field(description="Column of the labeled table; NULL while unknown.")
    known_at: str = Field(description="Column of the instant (UTC) at which the label became known.")
    description: str = Field(description="What it means, in a sentence; the model card and the service say it.")
    matures_within: Duration = Field(description="After the prediction time, until which nearly every label has come.")
    classes: tuple[str, ...] = Field(default=(), description="Of a multiclass label, in the order of their codes.")
    scale: str | None = Field(
        default=None,
        description="On which a regression's model is fitted, where not on the label's own: log1p, for counts.",
    )


class Window(Strict):
    """Prediction times from `start` (included) to `end` (excluded), before the as-of instant."""

    start: Offset = Field(description="Before the as-of instant, as in -10 months; included.")
    end: Offset = Field(description="Likewise, or 0 months for the instant itself; excluded.")


class Splits(Strict):
    """Three windows in the order of time; a row counts only if its label was known at its window's end."""

    train: Window
    validation: Window
    test: Window


class Bar(Strict):
    """Limits of one metric. Either may be left out."""

    min: float | None = Field(default=None, description="At least so much.")
    max: float | None = Field(default=None, description="At most so much.")


class Metrics(Strict):
    """How models are compared, and what the held-out test period must reach before one is used."""

    primary: str = Field(description="Decides between candidates on validation.")
    bars: dict[str, Bar] = Field(description="Per metric, on the test period.")
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="Of the primary metric: how much worse than the champion a refreshed model may be, at its "
        "interval's end, and counts as no worse.",
    )
    margin: float = Field(
        default=0.0005,
        ge=0,
        description="Of the primary metric: by how much more than 0 a changed model must be better than the champion, "
        "at its interval's end. Two models that differ by their seed alone differ by about as much.",
    )
    threshold: Literal["best_f1", "base_rate"] | float | None = Field(
        default=None,
        description="Of the task binary: where a probability becomes a decision, chosen on validation. Left out: "
        "best_f1.",
    )
    coverage: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Of the task regression: the share of labels that an interval is to hold. Left out: 0.8.",
    )


class Slices(Strict):
    """Groups whose performance is reported beside the whole's."""

    columns: tuple[str, ...] = Field(default=(), description="Columns of the labeled table; one group per value.")
    min_rows: int = Field(default=500, gt=0, description="Smaller groups are not judged.")


class Baseline(Strict):
    """The label's history per group, from the training window: its rate, its classes' rates, or its mean."""

    columns: tuple[str, ...] = Field(description="Columns of the labeled table that make a group.")
    min_gain: float = Field(
        description="By how much a model must be better on the test window. Of the task binary: by how much the area "
        "under its ROC curve exceeds this baseline's; of the others: the share by which the primary metric is better."
    )


class SearchRange(Strict):
    """Values to draw from; on a log scale where `log` is set."""

    low: float = Field(description="Lowest value.")
    high: float = Field(description="Highest value.")
    log: bool = Field(default=False, description="Draw on a logarithmic scale.")
    integer: bool = Field(default=False, description="Draw whole numbers.")


class Candidate(Strict):
    """One family of models to try."""

    name: str = Field(description="What reports call it.")
    model: str = Field(description="Its family; which there are depends on the task.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Fixed, as scikit-learn names them.")
    search: dict[str, SearchRange | list[Any]] = Field(
        default_factory=dict, description="Per parameter a range, or a list of values to draw from."
    )


class Budget(Strict):
    """What the search may spend."""

    draws: int = Field(gt=0, description="Parameter draws per candidate with a search space.")
    folds: int = Field(gt=1, description="Time-ordered folds of the training window.")
    max_rows: int = Field(gt=0, description="Of each fold used while searching, spread evenly over its time.")
    seed: int = Field(description="Of all that is drawn by chance: the same seed gives the same model.")


class Leakage(Strict):
    """Limits past which a result is too good, or a column too telling, to be honest."""

    max_roc_auc: float = Field(
        description="Of a model on validation or test: the area under the ROC curve of the label (binary), of any "
        "class against the others (multiclass), of the label's lying above its median (regression)."
    )
    max_feature_roc_auc: float = Field(description="The same of any single feature.")
    max_null_pattern_rate: float = Field(
        description="Rate of the label, of a class, or of labels above the median, among the rows where a feature is "
        "missing."
    )
    min_null_pattern_rows: int = Field(gt=0, description="Rarer null patterns are not judged.")


class Monitoring(Strict):
    """When a report raises the alarm."""

    window: Duration = Field(description="A report is about the requests of this long before the clock.")
    min_requests: int = Field(gt=1, description="With fewer in the window, nothing is judged.")
    min_labeled: int = Field(gt=1, description="With fewer matured labels in the window, performance isn't judged.")
    reference_rows: int = Field(gt=0, description="Rows drawn (seeded) from the reference period for the report.")
    blocks: int = Field(
        gt=1, description="Blocks of the reference period on whose variation thresholds are calibrated."
    )
    drift_quantile: float = Field(gt=0, lt=1, description="Of the block-to-block distances; beyond it a column drifts.")
    max_drifted_share: float = Field(
        gt=0, le=1, description="Share of drifted columns past which retraining is asked for."
    )
    performance_z: float = Field(
        gt=0,
        description="Standard deviations (of blocks) by which the primary metric may worsen, and by which what an "
        "interval promises may be missed or exceeded.",
    )
    cool_down: Duration = Field(description="Between two retrainings that a report asks for.")


class Serving(Strict):
    """What the service answers at most, and how long its log's files stay."""

    max_batch: int = Field(gt=0, description="Requests in one batch.")
    unknown_entity: Literal["flag", "refuse"] = Field(
        default="flag",
        description="What an answer is where a request's keys are in no table: a number with `unknown_keys` and, where "
        "little is known, a warning; or none, with status 404.",
    )
    identified_by: tuple[str, ...] = Field(
        default=(),
        description="With `refuse`: join keys each of which must be known, as the answer's `unknown_keys` names them. "
        "Left out: a request is refused where none of its keys is known.",
    )
    max_body_bytes: int = Field(default=1024 * 1024, gt=0, description="Of a request; past it, the answer is 413.")
    max_concurrency: int = Field(default=64, gt=0, description="Requests answered at once; past it, 429.")
    timeout: Duration = Field(
        default=timedelta(seconds=30),
        gt=timedelta(0),
        description="For one request to come in (past it, 408), and be answered (504).",
    )
    log_file_bytes: int = Field(
        default=64 * 1024 * 1024, gt=0, description="A log file of this size is followed by another."
    )
    log_keep: Duration = Field(
        default=timedelta(days=30),
        description="How long a log file stays after its last record, once it is in the lake.",
    )


class Problem(Strict):
    """One prediction problem. See `problems/flight_delay.yaml` for a commented example."""

    name: Annotated[str, AfterValidator(_schema)] = Field(description="As the file is called, without its ending.")
    question: str = Field(description="What is predicted, and when, for people.")
    task: Literal["binary", "multiclass", "regression"] = Field(description="Of which kind the label is.")
    domain: str = Field(description="Its source tables: a file under `problems/sources/`, without its ending.")
    labeled_table: str = Field(description="`schema.table`: one row per entity, with keys, prediction time and label.")
    split_table: str = Field(
        description="`schema.table`: the labeled rows that a window admits, with a column `split`."
    )
    entity: Entity
    prediction_time: PredictionTime
    label: Label
    splits: Splits
    feature_service: str = Field(description="Of the feature repository: which features the model gets.")
    metrics: Metrics
    slices: Slices = Slices()
    baseline: Baseline
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    budget: Budget
    leakage: Leakage
    monitoring: Monitoring
    serving: Serving
    assumptions: tuple[str, ...] = Field(default=(), description="What a reader of the model card must know.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Problem":
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise ValueError(f"candidates: names must differ, got {names}")
        return self

    def table(self, name: str) -> str:
        """The full name of a table that is this problem's alone."""
        return f"{self.name}.{name}"


def load_problem(path: Path) -> Problem:
    """Reads and checks a problem file.

    Raises:
        HindcastError: The file is missing, isn't YAML, or breaks the schema; each broken key is named. Or the problem
            is called otherwise than its file.
    """
    problem = load_strict(path, Problem)
    if problem.name != path.stem:
        raise HindcastError(f"{path}: name: {problem.name} must be as the file is called, {path.stem}.")
    return problem


def load_strict(path: Path, form: type[Form]) -> Form:
    """Reads a YAML file into a strict form, with every broken key named in one message.

    Raises:
        HindcastError: The file is missing, isn't YAML, or breaks the form.
    """
    if not path.exists():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise HindcastError(f"No {form.__name__.lower()} file {path}; there are: {', '.join(known) or 'none'}.")
    try:
        content = unique_yaml.load(path.read_text())
    except yaml.YAMLError as error:
        raise HindcastError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise HindcastError(f"{path} must be a mapping of keys to values.")
    try:
        return form.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'file'}: {_plain(fault)}" for fault in error.errors())
        raise HindcastError(f"{path}: {faults}") from error


def _plain(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "unknown key"
    if fault["type"] == "missing":
        return "missing key"
    return str(fault["msg"]).removeprefix("Value error, ")
