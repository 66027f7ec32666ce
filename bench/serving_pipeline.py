"""A plain BentoML service, as its tutorials write it: the fitted scikit-learn pipeline from a joblib file, a pandas
frame per request, the features in the request, the defaults otherwise.
"""

from typing import Any

import bentoml
import joblib
import pandas as pd
from pydantic import BaseModel, create_model

from bench.serving_given import pipeline_file
from hindcast.package.model import SIGNATURE, Signature
from hindcast.promotion.champion import champion_folder
from hindcast.settings import Settings

SETTINGS = Settings.from_environment()
SIGNATURE_ = Signature.from_json((champion_folder(SETTINGS) / SIGNATURE).read_text())
KINDS: dict[str, Any] = {"numeric": (float | None, ...), "categorical": (str | None, ...)}
Features: type[BaseModel] = create_model("Features", **{each.name: KINDS[each.kind] for each in SIGNATURE_.features})


class Answer(BaseModel):
    """What comes out."""

    probability: float
    decision: int


@bentoml.service
class Pipeline:
    """The model behind one typed route."""

    def __init__(self) -> None:
        self.pipeline = joblib.load(pipeline_file(SETTINGS))

    @bentoml.api
    def predict(self, features: Features) -> Answer:  # type: ignore[valid-type]
        frame = pd.DataFrame([features.model_dump()])  # type: ignore[attr-defined]
        probability = float(self.pipeline.predict_proba(frame)[0, 1])
        return Answer(probability=probability, decision=int(probability >= SIGNATURE_.calibration["threshold"]))
