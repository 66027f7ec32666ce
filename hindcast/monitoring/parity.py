"""Training/serving parity, measured on what was served: logged features and predictions are computed again offline.

*Skew* is what differs as of the state that the online store was in: a defect. *Staleness* is what had become known
between that state and the request: the price of filling the store only now and then. Recomputing is `recomputing`'s
work, drawing `parity_page`'s.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hindcast.artefacts import write_json
from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.monitoring.comparing import EXAMPLES, TOLERANCE, Found, compare_served, utc
from hindcast.monitoring.recomputing import Recomputing, requests_by_version
from hindcast.package.model import ServedModel
from hindcast.problem import Problem
from hindcast.serving.request_log import REQUESTS
from hindcast.settings import Settings

OK, SKEWED, UNPROVEN, EMPTY = "ok", "skew", "nothing could be checked", "no requests"

_BINS = 40


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
            the `effect` on predictions, `examples`.
        rewritten: What was served as the lake then had it, while today it says otherwise of the same instant, as if
            something had been known that came in later: `requests`, `cells`, `features`.
        predictions: `compared`; how many are `equal` to the last bit; `max_difference` of any of their numbers
            (`Task.distance`); `tolerance`.
        staleness: `store_age` (seconds from the store's state to the request: `median`, `max`); `requests` of which
            anything had changed; per feature (most often changed first) the `share` of requests whose value had, the
            `missing_share` where either value is missing, the `mean_absolute_difference` of the others; the `effect`
            on predictions, and the `histogram` of their changes.
        quantity: What is predicted: `probability`, `value`; `prediction` where the models differ in it.
        summary: One sentence.

    An effect is the `mean` and `max` of the predictions' absolute change (`Task.change`), and how many decisions it
    turns (`flips`; None where nothing is decided).
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
    quantity: str
    summary: str


def measure(settings: Settings, problem: Problem, lake: Lake, now: datetime) -> Parity:
    """Compares the requests of the problem's monitoring window with what the lake says, version by version.

    A value has parity if it is what the lake's newest snapshot says of the state that the store was in or, where the
    past has been rewritten since, what the snapshot says that the store was filled from.

    Args:
        settings: Of the home that holds the packages.
        problem: Says how long the window is.
        lake: Holds the problem's `requests` and the feature tables.
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
                found.append(Found(rows.with_columns(reason=pl.lit(str(error)))))
            else:
                requests, unreadable = recomputing.requests(connection, since, now)
                found.append(Found(unreadable))
                if len(requests):
                    found.append(compare_served(connection, dict(made), model, recomputing, requests))
    return _parity(found)


def write(parity: Parity, path: Path) -> str:
    """Writes it as JSON, and returns the text."""
    return write_json(path, asdict(parity))


# What may be known of a request, and of a feature; null where it wasn't measured.
_REQUEST: dict[str, Any] = {
    "id": pl.String,
    "prediction_time": pl.Datetime("us"),
    "reason": pl.String,
    **dict.fromkeys(("difference", "age", "skew_change", "stale_change"), pl.Float64),
    **dict.fromkeys(("predicted_otherwise", "skewed", "rewritten", "stale", "skew_flips", "stale_flips"), pl.Boolean),
}
_FEATURE: dict[str, Any] = {
    "name": pl.String,
    **dict.fromkeys(("cells", "skewed", "rewritten", "stale", "missing", "numbers"), pl.Int64),
    "distance": pl.Float64,
}


def _parity(found: list[Found]) -> Parity:
    """Adds up over the models."""
    rows = _stacked(_REQUEST, [each.requests for each in found])
    features = _stacked(_FEATURE, [each.features for each in found]).group_by("name", maintain_order=True).sum()
    views = _stacked(_FEATURE, [each.views for each in found]).group_by("name", maintain_order=True).sum()
    checked = rows.filter(pl.col("reason").is_null())
    reasons = rows.drop_nulls("reason").group_by("reason", maintain_order=True)
    unchecked = reasons.agg(requests=pl.len(), examples=pl.col("id").head(EXAMPLES)).to_dicts()
    answered = rows.drop_nulls("difference")
    skew = {
        "requests": int(checked["skewed"].sum()),
        "cells": int(features["skewed"].sum()),
        "features": _named(features, "skewed"),
        "views": _named(views, "skewed"),
        "predictions": int(answered["predicted_otherwise"].sum()),
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
    quantities = {each.quantity for each in found if each.quantity}
    parity = Parity(
        status=SKEWED if faults else EMPTY if rows.is_empty() else OK if len(checked) else UNPROVEN,
        window=None
        if rows.is_empty()
        else {"from": utc(rows["prediction_time"].min()), "to": utc(rows["prediction_time"].max())},
        requests=len(rows),
        checked=len(checked),
        unchecked=unchecked,
        cells=int(features["cells"].sum()),
        skew=skew,
        rewritten=rewritten,
        predictions=predictions,
        staleness=staleness,
        quantity=str(quantities.pop()) if len(quantities) == 1 else "prediction",
        summary="",
    )
    return replace(parity, summary=_sentence(parity))


def _stacked(schema: dict[str, Any], frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal_relaxed").select(list(schema))


def _named(counts: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(counts.filter(pl.col(column) > 0).select("name", column).iter_rows())


def _effect(rows: pl.DataFrame, what: str) -> dict[str, Any] | None:
    changes = rows[f"{what}_change"].drop_nulls().abs()
    if changes.is_empty():
        return None
    flips = rows[f"{what}_flips"].drop_nulls()
    return {"mean": changes.mean(), "max": changes.max(), "flips": int(flips.sum()) if len(flips) else None}


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
            f"staleness moves the {parity.quantity} by {effect['mean']:.4f} on average (max {effect['max']:.4f})"
            + ("" if effect["flips"] is None else f" and turns {effect['flips']:,} decisions")
        )
    return f"{'; '.join(parts)}."


def _most(counts: Mapping[str, int]) -> str:
    """The names with the highest counts."""
    names = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")
