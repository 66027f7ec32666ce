"""The real service of a problem of several classes, and of one of numbers: from the request to the log and the lake."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from hindcast.lake import Lake
from hindcast.package.model import ServedModel
from hindcast.promotion import champion
from hindcast.serving.request_log import compact, prediction_columns
from hindcast.serving.server import champion_tag, running
from hindcast.settings import Settings
from tests.patience import SILENCE, wait_for
from tests.served_world import NOON, package, promote, served_world
from tests.tiny_model import prediction

CLASSES = ("light", "fair", "heavy load")


@pytest.fixture(scope="module", params=[("multiclass", CLASSES), ("regression", ())], ids=lambda param: param[0])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return served_world(tmp_path_factory.mktemp("other"), *request.param)


@pytest.fixture(scope="module")
def client(home: Settings) -> Iterator[httpx.Client]:
    with (
        running(home, champion_tag(home)) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=SILENCE) as client,
    ):
        yield client


def asking(parcel: str) -> dict[str, Any]:
    return {"parcel": parcel, "depot": 1, "prediction_time": NOON.isoformat()}


def numbers(said: dict[str, Any]) -> list[float]:
    """An answer's prediction, as the log has it."""
    several = said.get("probabilities")
    return list(several.values()) if several else [said[name] for name in ("value", "lower", "upper")]


def test_from_the_request_to_the_lake(client: httpx.Client, home: Settings) -> None:
    model = ServedModel.load(home.models / "v1")
    one = client.post("/predict", json=asking("P1")).json()
    batch = client.post("/predict_batch", json={"requests": [asking("P2"), {"parcel": "P1"}, asking("P1")]}).json()
    explained = client.post("/explain", json=asking("P2")).json()
    assert batch["failed"] == 1
    answers = [one, batch["answers"][0], batch["answers"][2], explained]
    for said, weight in zip(answers, (2.0, -1.0, 2.0, -1.0), strict=True):
        assert numbers(said) == pytest.approx(prediction(model.signature, 0.0, weight), rel=1e-5)
    compact(home.request_log, Lake(home), "parcels.requests", "parcel")
    with Lake(home).reading() as connection:
        sql = f"SELECT id, decision, {prediction_columns(model.task.outputs)} FROM parcels.requests"
        rows = {name: (decision, found) for name, decision, *found in connection.execute(sql).fetchall()}
    assert rows == {said["id"]: (said.get("decision"), numbers(said)) for said in answers}


def test_an_explanation_adds_up_for_each_score(client: httpx.Client) -> None:
    said = client.post("/explain", json=asking("P1")).json()
    several = isinstance(said["base"], dict)
    for score, raw in {"light": -2.0, "fair": 0.0, "heavy load": 2.0}.items() if several else [(None, 2.0)]:
        base, total, *each = (
            one[score] if several else one
            for one in (said["base"], said["raw_score"], *(one["contribution"] for one in said["contributions"]))
        )
        assert base + sum(each) == pytest.approx(total, abs=said["tolerance"])
        assert total == pytest.approx(raw)
    assert [each["feature"] for each in said["contributions"]] == ["weight", "kind"]


def test_the_description_is_of_what_is_answered(client: httpx.Client) -> None:
    schemas = client.get("/docs.json").json()["components"]["schemas"]
    for name, said in (
        ("Answer", client.post("/predict", json=asking("P1")).json()),
        ("Explained", client.post("/explain", json=asking("P1")).json()),
        ("Model", client.get("/model").json()),
    ):
        assert set(said) == set(schemas[name]["properties"]) == set(schemas[name]["required"])


def test_a_challenger_is_asked_beside_and_a_new_champion_follows(client: httpx.Client, home: Settings) -> None:
    signature = ServedModel.load(home.models / "v1").signature
    package(home, "beside", -3.0)
    champion.set_shadow(home, "beside", NOON)
    wait_for(lambda: client.get("/model").json()["shadow"])
    said = client.post("/predict", json=asking("P1")).json()
    wait_for(lambda: client.get("/model").json()["shadow"]["answered"] == 1)
    compact(home.shadow_log, Lake(home), "parcels.shadow_requests", "parcel", timedelta(days=1))
    with Lake(home).reading() as connection:
        ((name, found),) = connection.execute("SELECT id, prediction FROM parcels.shadow_requests").fetchall()
    assert (name, found) == (said["id"], pytest.approx(prediction(signature, -3.0, 2.0), rel=1e-5))
    promote(home, "v2", 0.5)
    wait_for(lambda: client.get("/model").json()["version"] == "v2")
    assert numbers(client.post("/predict", json=asking("P1")).json()) == pytest.approx(
        prediction(signature, 0.5, 2.0), rel=1e-5
    )
