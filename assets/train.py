"""Stage train: alarms on the training set, then the fitted candidates. Fitting is `hindcast.training.search`'s work."""

from collections.abc import Iterator

from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetKey,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
    multi_asset_check,
)

from assets.resources import HindcastResource
from hindcast.fingerprint import fingerprint
from hindcast.training.training_data import read_training_data

TRAINING_SET = AssetKey(["train", "training_set"])


@multi_asset_check(
    specs=[
        AssetCheckSpec(name, asset=TRAINING_SET, blocking=True, description=description)
        for name, description in (
            ("single_feature_roc_auc", "No feature alone tells the label apart too well."),
            ("null_pattern_label_rate", "That something is missing isn't the label."),
            ("known_at_violations", "Every label came after its question, and before its window's end."),
        )
    ]
)
def training_set_leaks(hindcast: HindcastResource) -> Iterator[AssetCheckResult]:
    """Alarms for what is too good to be true; a training set that raises one trains nothing."""
    from hindcast.evaluation.leak_checks import check_training_set
    from hindcast.features.store import feature_names

    problem = hindcast.problem
    data = read_training_data(hindcast.lake, problem)
    features = feature_names(hindcast.settings, problem.feature_service)
    for check in check_training_set(problem, data.frame, features, data.windows):
        yield AssetCheckResult(
            asset_key=TRAINING_SET,
            check_name=check.name,
            passed=check.holds,
            description=check.detail if check.holds else check.message(),
            metadata={"value": check.value, "limit": check.limit},
        )


@asset(deps=[TRAINING_SET], kinds={"scikitlearn"})
def candidates(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """Every candidate of the problem file: searched over folds in time, fitted on the training window."""
    from hindcast.features.store import feature_names
    from hindcast.training.search import shown_search, train

    problem = hindcast.problem
    data = read_training_data(hindcast.lake, problem)
    found = train(problem, data, feature_names(hindcast.settings, problem.feature_service))
    found.save(hindcast.settings.candidates_file)
    return MaterializeResult(
        metadata={
            "features": len(found.features),
            "snapshot": found.snapshot,
            "training_hash": found.training_hash,
            "search": MetadataValue.md(shown_search(found, problem.metrics.primary)),
            **{f"{fitted.name}_core_seconds": round(fitted.seconds, 1) for fitted in found.fitted},
        },
        data_version=DataVersion(
            fingerprint(values=[found.training_hash, *((each.name, each.parameters) for each in found.fitted)])
        ),
    )
