"""Training/serving parity, measured on what was served: logged features and predictions are computed again offline.

*Skew* is what differs as of the state that the online store was in: a defect. *Staleness* is what had become known
between that state and the request: the price of filling the store only now and then. Recomputing is `recomputing`'s
work, drawing `parity_page`'s.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.lake import Lake
from hindcast.monitoring.recomputing import Recomputing, Requests, known_at, requests_by_version
from hindcast.package.model import ServedModel
from hindcast.problem import Problem
from hindcast.serving.request_log import REQUESTS
from hindcast.settings import Settings
from hindcast.training.training_data import columns

TOLERANCE = 1e-6
"""By how much a logged probability may differ from what its package says of the same features."""

OK, SKEWED, UNPROVEN, EMPTY = "ok", "skew", "nothing could be checked", "no requests"

_EXAMPLES = 3
_BINS = 40

_NO_STATE = "answered from an online store that doesn't say until when it had been filled"
_REDECLARED = "the model's features have been defined otherwise since it was made"
_PASSED = "asked about an instant that the online store had passed, where it holds the newest rows alone"
_GONE = "the lake no longer holds the snapshot that the online store was filled from"
_UNREADABLE = "at the snapshot that the online store was filled from, the lake lacks a table or column of a view"


@dataclass(frozen=True)
class Parity:
    """What was found in one window of requests. Its fields are the keys of `parity.json`.

    Attributes:
        status: `ok`, `skew`, `nothing could be checked` (though there were requests), or `no requests`.
        window: `from` and `to`: first and last prediction time of its requests; None where there are none.
        requests: Logged in the window.
        checked: Those whose features could be compared.
        unchecked: The others: `reason`, `requests`, some ids as `examples`.
        cells: Feature values that were compared.
        skew: What was served otherwise than the lake says of the store's state: `requests`, `cells`, per feature how
            many (`features`), views that another row was taken from (`views`), `predictions` beyond the tolerance,
            the `effect` on the probability, `examples`.
        rewritten: What was served as the lake then had it, while today it says otherwise of the same instant, as if
            something had been known that came in later: `requests`, `cells`, `features`.
        predictions: `compared`; how many are `equal` to the last bit; `max_difference`; `tolerance`.
        staleness: `store_age` (seconds from the store's state to the request: `median`, `max`); `requests` of which
            anything had changed; per feature (most often changed first) the `share` of requests whose value had, the
            `missing_share` where either value is missing, the `mean_absolute_difference` of the others; the `effect`
            on the probability, and the `histogram` of its changes.
        summary: One sentence.

    An effect is the `mean` and `max` of the probability's absolute change, and how many decisions it turns (`flips`).
    """

    status: str
    window: dict[str, str] | None
    requests: int
    checked: int
    unchecked: list[dict[str, Any]]
    cells: int
    skew: dict[str, Any]
    rewritten: dict[str, Any]
    predictions: dict[str, Any]
    staleness: dict[str, Any]
    summary: str


@dataclass(frozen=True)
class _Found:
    """What one model's requests show.

    Attributes:
        requests: One row each: `id`, `prediction_time`, `reason` (null where it was checked), and what was measured.
        features: One row per feature, with counts of requests.
        views: The same per feature view.
        examples: Of skew.
    """

    requests: pl.DataFrame
    features: pl.DataFrame = field(default_factory=pl.DataFrame)
    views: pl.DataFrame = field(default_factory=pl.DataFrame)
    examples: list[dict[str, Any]] = field(default_factory=list)


def measure(settings: Settings, problem: Problem, lake: Lake, now: datetime) -> Parity:
    """Compares the requests of the problem's monitoring window with what the lake says, version by version.

    A value has parity if it is what the lake's newest snapshot says of the state that the store was in or, where the
    past has been rewritten since, what the snapshot says that the store was filled from.

    Args:
        settings: Of the home that holds the packages.
        problem: Says how long the window is.
        lake: Holds the requests (`log.requests`) and the feature tables.
        now: The clock: the window's end.
    """
    return _measure(settings, lake, now - problem.monitoring.window, now)


def measure_model(settings: Settings, lake: Lake, version: str, now: datetime) -> Parity:
    """As `measure`, of all that one model ever answered."""
    return _measure(settings, lake, datetime(1970, 1, 1, tzinfo=UTC), now, version)


def _measure(settings: Settings, lake: Lake, since: datetime, now: datetime, only: str | None = None) -> Parity:
    if not lake.exists(f"{settings.problem}.{REQUESTS}"):
        return _parity([])
    found = []
    with lake.reading() as connection:
        made = connection.execute("SELECT snapshot_id, snapshot_time FROM lake.snapshots()").fetchall()
        for version, rows in requests_by_version(connection, settings.problem, since, now).items():
            if only not in (None, version):
                continue
            try:
                model = ServedModel.load(settings.models / version)
                recomputing = Recomputing(settings, model)
            except HindcastError as error:
                found.append(_Found(rows.with_columns(reason=pl.lit(str(error)))))
            else:
                requests, unreadable = recomputing.requests(connection, since, now)
                found.append(_Found(unreadable))
                if len(requests):
                    found.append(_compare(connection, dict(made), model, recomputing, requests))
    return _parity(found)


def write(parity: Parity, path: Path) -> str:
    """Writes it as JSON, and returns the text."""
    text = json.dumps(asdict(parity), indent=2, allow_nan=False) + "\n"
    write_atomically(path, text)
    return text


def _compare(
    connection: duckdb.DuckDBPyConnection,
    made: Mapping[int, datetime],
    model: ServedModel,
    recomputing: Recomputing,
    requests: Requests,
) -> _Found:
    """Compares one model's requests.

    Args:
        connection: To the lake.
        made: The lake's snapshots, and when each was made.
        model: Who answered.
        recomputing: Its features.
        requests: At least one.
    """
    told = requests.said["features_as_of"].is_not_null()
    requests = requests.saying(again=_predict(model, requests.features), reason=pl.when(~told).then(pl.lit(_NO_STATE)))
    left_out = [requests.where(~told).said]
    requests, newest = requests.where(told), max(made)
    if len(requests):
        known_by = requests.said.select(pl.min_horizontal("features_as_of", "prediction_time")).to_series()
        today = recomputing.features(connection, requests, known_by, newest)
        requests, then = _as_of_its_snapshot(connection, made, recomputing, requests, known_by, today)
        checked = requests.said["reason"].is_null()
        left_out.append(requests.where(~checked).said)
        requests, then, today = requests.where(checked), then.filter(checked), today.filter(checked)
    if not len(requests):
        return _Found(pl.concat(left_out))
    fresh = recomputing.features(connection, requests, requests.said["prediction_time"], newest)
    names = model.signature.names
    skewed = _differ(requests.features, then)
    stale = _differ(then.select(names), fresh.select(names))
    threshold = model.signature.threshold
    said = requests.said.with_columns(
        skewed=skewed,
        rewritten=_differ(then, today),
        stale=stale,
        by_then=_where(skewed, model, then, requests.said["again"]),
    )
    said = said.with_columns(fresh=_where(stale, model, fresh, said["by_then"]))
    decided = {column: pl.col(column) >= threshold for column in ("probability", "by_then", "fresh")}
    said = said.with_columns(
        skew_change=pl.when("skewed").then(pl.col("by_then") - pl.col("probability")),
        skew_flips=decided["by_then"] != decided["probability"],
        stale_change=pl.col("fresh") - pl.col("by_then"),
        stale_flips=decided["fresh"] != decided["by_then"],
        age=(pl.col("prediction_time") - pl.col("features_as_of")).dt.total_microseconds() / 1e6,
    )
    requests = replace(requests, said=said)
    return _Found(
        pl.concat([*left_out, said], how="diagonal_relaxed"),
        pl.DataFrame([_count(name, requests.features, then, today, fresh) for name in names]),
        pl.DataFrame(
            [
                {"name": view, "skewed": requests.features[known_at(view)].ne_missing(then[known_at(view)]).sum()}
                for view in recomputing.views
            ]
        ),
        _examples(model, requests, then),
    )


def _as_of_its_snapshot(
    connection: duckdb.DuckDBPyConnection,
    made: Mapping[int, datetime],
    recomputing: Recomputing,
    requests: Requests,
    known_by: pl.Series,
    today: pl.DataFrame,
) -> tuple[Requests, pl.DataFrame]:
    """What the lake says of the store's state: today where that is what was served, else at the snapshot that it had.

    Only what differs today is read again: a join per snapshot, and after weeks of hourly filling there are hundreds.

    Returns:
        The requests, with the reason why it can't be said of some, and the features.
    """
    made_at = pl.col("features_snapshot").replace_strict(
        list(made), [instant.astimezone(UTC).replace(tzinfo=None) for instant in made.values()], default=None
    )
    differs = _differ(requests.features, today)
    requests = requests.saying(
        reason=pl.when(~differs)
        .then(None)
        .when(recomputing.redeclared)
        .then(pl.lit(_REDECLARED))
        .when(pl.col("features_as_of") > pl.col("prediction_time"))
        .then(pl.lit(_PASSED))
        # One that is younger than the answer is of another lake, which was made in the place of that one.
        .when(~(made_at <= pl.col("received_at")).fill_null(value=False))
        .then(pl.lit(_GONE))
    )
    then = today.with_row_index("row")
    again = requests.said.with_row_index("row").filter(differs & requests.said["reason"].is_null())
    for (snapshot,), rows in again.group_by("features_snapshot"):
        these = then["row"].is_in(rows["row"].implode())
        try:
            found = recomputing.features(connection, requests.where(these), known_by.filter(these), int(str(snapshot)))
        except duckdb.Error:
            requests = requests.saying(reason=pl.when(these).then(pl.lit(_UNREADABLE)).otherwise("reason"))
        else:
            then = pl.concat([then.filter(~these), rows.select("row").hstack(found)]).sort("row")
    return requests, then.drop("row")


def _differ(one: pl.DataFrame, other: pl.DataFrame) -> pl.Series:
    """Per row whether any column differs; two missing values are equal."""
    return pl.select(pl.any_horizontal(one[name].ne_missing(other[name]) for name in one.columns)).to_series()


def _predict(model: ServedModel, features: pl.DataFrame) -> pl.Series:
    return pl.Series(model.predict(model.matrix(columns(features, model.signature.features))), dtype=pl.Float64)


def _where(changed: pl.Series, model: ServedModel, features: pl.DataFrame, before: pl.Series) -> pl.Series:
    """The probabilities, predicted again where the features have changed."""
    return before.scatter(changed.arg_true(), _predict(model, features.filter(changed)))


def _count(
    name: str, served: pl.DataFrame, then: pl.DataFrame, today: pl.DataFrame, fresh: pl.DataFrame
) -> dict[str, Any]:
    old, new = then[name], fresh[name]
    stale, both = old.ne_missing(new), old.is_not_null() & new.is_not_null()
    numeric = old.dtype.is_numeric()
    return {
        "name": name,
        "cells": len(old),
        "skewed": served[name].ne_missing(old).sum(),
        "rewritten": old.ne_missing(today[name]).sum(),
        "stale": stale.sum(),
        "missing": (stale & ~both).sum(),
        "numbers": (stale & both).sum() if numeric else 0,
        "distance": float((new - old).filter(both).abs().sum()) if numeric else 0.0,
    }


def _examples(model: ServedModel, requests: Requests, then: pl.DataFrame) -> list[dict[str, Any]]:
    """A few of each sort of skew: what was served and what it should have been."""
    by_column = {name: (requests.features[name], then[name]) for name in then.columns}
    wrong = {name: served.ne_missing(expected) for name, (served, expected) in by_column.items()}
    said = requests.said
    by_column["probability"] = said["probability"], said["by_then"]
    wrong["probability"] = said.select(_wrong()).to_series()
    return [
        {
            "request": said["id"][row],
            "model_version": model.version,
            "prediction_time": _utc(said["prediction_time"][row]),
            "what": name,
            "served": _shown(served[row]),
            "recomputed": _shown(expected[row]),
        }
        for name, (served, expected) in by_column.items()
        for row in wrong[name].arg_true().head(_EXAMPLES)
    ]


# What may be known of a request, and of a feature; null where it wasn't measured.
_REQUEST: dict[str, Any] = {
    "id": pl.String,
    "prediction_time": pl.Datetime("us"),
    "reason": pl.String,
    **dict.fromkeys(("probability", "again", "by_then", "age", "skew_change", "stale_change"), pl.Float64),
    **dict.fromkeys(("skewed", "rewritten", "stale", "skew_flips", "stale_flips"), pl.Boolean),
}
_FEATURE: dict[str, Any] = {
    "name": pl.String,
    **dict.fromkeys(("cells", "skewed", "rewritten", "stale", "missing", "numbers"), pl.Int64),
    "distance": pl.Float64,
}


def _parity(found: list[_Found]) -> Parity:
    """Adds up over the models."""
    rows = _stacked(_REQUEST, [each.requests for each in found])
    features = _stacked(_FEATURE, [each.features for each in found]).group_by("name", maintain_order=True).sum()
    views = _stacked(_FEATURE, [each.views for each in found]).group_by("name", maintain_order=True).sum()
    checked = rows.filter(pl.col("reason").is_null())
    reasons = rows.drop_nulls("reason").group_by("reason", maintain_order=True)
    unchecked = reasons.agg(requests=pl.len(), examples=pl.col("id").head(_EXAMPLES)).to_dicts()
    answered = rows.drop_nulls("again").with_columns(difference=(pl.col("again") - pl.col("probability")).abs())
    skew = {
        "requests": int(checked["skewed"].sum()),
        "cells": int(features["skewed"].sum()),
        "features": _named(features, "skewed"),
        "views": _named(views, "skewed"),
        "predictions": int(answered.select(_wrong()).to_series().sum()),
        "effect": _effect(checked, "skew"),
        "examples": [example for each in found for example in each.examples],
    }
    rewritten = {
        "requests": int(checked["rewritten"].sum()),
        "cells": int(features["rewritten"].sum()),
        "features": _named(features, "rewritten"),
    }
    predictions = {
        "compared": len(answered),
        "equal": int((answered["difference"] == 0).sum()),
        "max_difference": answered["difference"].max(),
        "tolerance": TOLERANCE,
    }
    staleness = {
        "store_age": {"median": checked["age"].median(), "max": checked["age"].max()},
        "requests": int(checked["stale"].sum()),
        "features": _changed(features),
        "effect": _effect(checked, "stale"),
        "histogram": _histogram(checked["stale_change"].to_numpy()),
    }
    faults = skew["requests"] or skew["predictions"]
    parity = Parity(
        status=SKEWED if faults else EMPTY if rows.is_empty() else OK if len(checked) else UNPROVEN,
        window=None
        if rows.is_empty()
        else {"from": _utc(rows["prediction_time"].min()), "to": _utc(rows["prediction_time"].max())},
        requests=len(rows),
        checked=len(checked),
        unchecked=unchecked,
        cells=int(features["cells"].sum()),
        skew=skew,
        rewritten=rewritten,
        predictions=predictions,
        staleness=staleness,
        summary="",
    )
    return replace(parity, summary=_sentence(parity))


def _stacked(schema: dict[str, Any], frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal_relaxed").select(list(schema))


def _wrong() -> pl.Expr:
    """Whether the package says otherwise of the features than it is logged to have said; unknown counts as no."""
    beyond = [~((pl.col(column) - pl.col("probability")).abs() <= TOLERANCE) for column in ("again", "by_then")]
    return pl.any_horizontal(beyond).fill_null(value=False)


def _named(counts: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(counts.filter(pl.col(column) > 0).select("name", column).iter_rows())


def _effect(rows: pl.DataFrame, what: str) -> dict[str, Any] | None:
    changes = rows[f"{what}_change"].drop_nulls().abs()
    if changes.is_empty():
        return None
    return {"mean": changes.mean(), "max": changes.max(), "flips": int(rows[f"{what}_flips"].sum())}


def _changed(features: pl.DataFrame) -> list[dict[str, Any]]:
    return (
        features.filter(pl.col("stale") > 0)
        .select(
            feature="name",
            share=pl.col("stale") / pl.col("cells"),
            missing_share=pl.col("missing") / pl.col("cells"),
            mean_absolute_difference=pl.when(pl.col("numbers") > 0).then(pl.col("distance") / pl.col("numbers")),
        )
        .sort("share", "feature", descending=[True, False])
        .to_dicts()
    )


def _histogram(changes: Any) -> dict[str, list[float]] | None:
    """Counts of changes between edges that lie evenly on both sides of 0; None where nothing changed."""
    widest = float(np.abs(changes).max(initial=0.0))
    if not widest:
        return None
    counts, edges = np.histogram(changes, bins=_BINS + 1, range=(-widest, widest))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _sentence(parity: Parity) -> str:
    if parity.status == EMPTY:
        return "No requests in the window."
    parts = []
    if parity.checked:
        parts.append(
            f"{parity.skew['cells']:,} of {parity.cells:,} cells skewed over {parity.checked:,} requests"
            + (f" ({_most(parity.skew['features'])})" if parity.skew["features"] else "")
        )
    if parity.skew["views"] and not parity.skew["cells"]:
        times = sum(parity.skew["views"].values())
        parts.append(f"another row was taken from a view {times:,} times ({_most(parity.skew['views'])})")
    if parity.skew["predictions"]:
        parts.append(f"{parity.skew['predictions']:,} predictions aren't what the package says")
    if parity.rewritten["cells"]:
        parts.append(
            f"{parity.rewritten['cells']:,} cells were rewritten later ({_most(parity.rewritten['features'])})"
        )
    parts += [
        f"{each['requests']:,} requests can't be checked: {each['reason'].rstrip('.')}" for each in parity.unchecked
    ]
    if effect := parity.staleness["effect"]:
        parts.append(
            f"staleness moves the probability by {effect['mean']:.4f} on average (max {effect['max']:.4f}) and turns "
            f"{effect['flips']:,} decisions"
        )
    return f"{'; '.join(parts)}."


def _most(counts: Mapping[str, int]) -> str:
    """The names with the highest counts."""
    names = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")


def _shown(value: Any) -> Any:
    return _utc(value) if isinstance(value, datetime) else value


def _utc(instant: Any) -> str:
    return f"{instant.isoformat()}Z"
