"""What servers are given instead of the online store and the package: features read before, a scikit-learn pipeline."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hindcast.package.model import METRICS, SIGNATURE, Signature
from hindcast.promotion.champion import champion_folder
from hindcast.settings import Settings


@dataclass(frozen=True)
class Found:
    """As `FeatureReader` gives it, of one row."""

    values: dict[str, list[Any]]
    known_at: dict[str, list[datetime | None]]
    stale: list[list[str]]
    as_of: datetime | None
    snapshot: int | None
    unknown: dict[str, list[bool]] = field(default_factory=dict)


class MemoryReader:
    """Knows some entities by their key.

    Args:
        settings: Of a home for which `write` was called.
    """

    def __init__(self, settings: Settings) -> None:
        content = json.loads(_file(settings).read_text())
        self._key = content["key"]
        self._found = {
            entity: Found(
                row["values"],
                {view: [at and datetime.fromisoformat(at) for at in known] for view, known in row["known_at"].items()},
                row["stale"],
                row["as_of"] and datetime.fromisoformat(row["as_of"]),
                row["snapshot"],
            )
            for entity, row in content["found"].items()
        }

    def read(self, rows: Sequence[dict[str, Any]], at: Sequence[datetime]) -> Found:
        """Of one row; the instant is that of writing."""
        return self._found[rows[0][self._key]]


def write_features(settings: Settings, service: str, key: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reads the features of the requests from the online store and keeps them.

    Returns:
        The features of each request, numbers as the model takes them: what float32 can hold.
    """
    import numpy as np

    from hindcast.features.online import FeatureReader

    reader = FeatureReader(settings, service)
    found = [reader.read([body], [datetime.fromisoformat(body["prediction_time"])]) for body in bodies]
    rows = {body[key]: asdict(each) for body, each in zip(bodies, found, strict=True)}
    _file(settings).write_text(json.dumps({"key": key, "found": rows}, default=datetime.isoformat))
    return [{name: _rounded(column[0], np.float32) for name, column in each.values.items()} for each in found]


def write_pipeline(source: Settings, target: Settings, given: list[dict[str, Any]]) -> None:
    """Puts before the champion's estimator what makes its matrix of a frame, and keeps both as one pipeline."""
    import joblib
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    from hindcast.training.search import Candidates

    package = champion_folder(source)
    chosen = json.loads((package / METRICS).read_text())["candidate"]["name"]
    (estimator,) = (each.estimator for each in Candidates.load(source.candidates_file).fitted if each.name == chosen)
    features = Signature.from_json((package / SIGNATURE).read_text()).features
    kinds = [each.kind for each in features]
    assert kinds == sorted(kinds)  # the transformer's columns come out in the estimator's order
    encoder = OrdinalEncoder(
        categories=[np.array(each.categories, dtype=object) for each in features if each.kind == "categorical"],
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
    )
    named = [each.name for each in features if each.kind == "categorical"]
    before = ColumnTransformer([("categories", encoder, named)], remainder="passthrough")
    before.fit(pd.DataFrame(given)[[each.name for each in features]])
    joblib.dump(make_pipeline(before, estimator), pipeline_file(target))


def pipeline_file(settings: Settings) -> Path:
    return settings.home / "pipeline.joblib"


def _rounded(value: Any, kind: Callable[[float], Any]) -> Any:
    return float(kind(value)) if isinstance(value, int | float) else value


def _file(settings: Settings) -> Path:
    return settings.home / "features_read.json"
