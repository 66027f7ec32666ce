"""Stage score: the champion on a whole period, without a server. Scoring is `hindcast.evaluation.scoring`'s work."""

from dagster import AssetKey, DataVersion, MaterializeResult, asset

from assets.resources import HindcastResource
from hindcast.problem import load_problem
from hindcast.settings import Settings

_LABELED = AssetKey(load_problem(Settings.from_environment().problem_file).labeled_table.split("."))


@asset(key=["predictions", "batch"], deps=["champion", _LABELED], kinds={"duckdb", "onnx"})
def batch_predictions(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per entity asked about since the test window began, scored by the champion on what was known then."""
    from hindcast.evaluation.scoring import score_period, scoring_period, write_batch
    from hindcast.package.model import ServedModel
    from hindcast.promotion.champion import champion_folder
    from hindcast.training.training_set import content_hash

    settings, problem, lake = hindcast.settings, hindcast.problem, hindcast.lake
    model = ServedModel.load(champion_folder(settings))
    starts_at, ends_at = scoring_period(lake)
    scored = score_period(settings, problem, lake, model, starts_at, ends_at)
    write_batch(lake, scored)
    return MaterializeResult(
        metadata={
            "dagster/row_count": scored.height,
            "from": starts_at.isoformat(),
            "to": ends_at.isoformat(),
            "model_version": model.version,
            "decided_1": int(scored["decision"].sum()),
            "mean_probability": round(float(scored["probability"].to_numpy().mean()), 4),
        },
        data_version=DataVersion(content_hash(scored)),
    )
