"""An ordinary FastAPI app of one typed route: features from memory, the same ONNX call, the same record in the log."""

from datetime import UTC
from typing import Any

from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict

from bench.serving_bare import Bare
from bench.serving_given import MemoryReader
from hindcast.settings import Settings


class Flight(BaseModel):
    """What a request names."""

    model_config = ConfigDict(extra="forbid")

    flight_id: str
    origin: str | None
    carrier: str | None
    destination: str | None
    flight_number: int | None
    tail_number: str | None
    prediction_time: AwareDatetime


app = FastAPI()
bare = Bare(Settings.from_environment(), lambda settings, service: MemoryReader(settings))


@app.post("/predict")
async def predict(flight: Flight) -> dict[str, Any]:
    entity = flight.model_dump()
    at = entity.pop("prediction_time").astimezone(UTC)
    return bare.answer(entity, at)
