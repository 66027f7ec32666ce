"""From the split to fitted candidates: the training set, alarms on it, the search. The work: `hindcast.training`."""

from collections.abc import Iterator

from dagster import (
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
    asset_check,
    multi_asset_check,
)

from assets.inputs import LIMITS, limits_version
from assets.resources import HindcastResource
from assets.tables import table_key
from hindcast.fingerprint import fingerprint
from hindcast.pipeline import train_candidates
from hindcast.training.training_data import read_training_data
from hindcast.workspace import Workspace

_LEAK_ALARMS = {
    "single_feature_roc_auc": "No feature alone tells the label apart too well.",
    "null_pattern_label_rate": "That something is missing isn't the label.",
    "known_at_violations": "Every label came after its question, and before its window's end.",
}


def build_training(workspace: Workspace) -> list[AssetsDefinition | AssetChecksDefinition]:
    """The assets `<problem>/training_set` and `<problem>/candidates`, and the checks between them."""
    of = workspace.problem.name
    key = AssetKey([of, "training_set"])
    split = table_key(of, workspace.problem.split_table)

    @asset(key=key, deps=[split, AssetKey([of, "feature_history"])], kinds={"feast", "duckdb"})
    def training_set(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """One row per split entity, with the features of the problem's service as known at its prediction time."""
        from hindcast.training.training_set import build

        found = hindcast.problem(of)
        built = build(found.settings, found.problem, found.lake)
        rows = {f"rows_{split}": count for split, count in built.rows.items()}
        metadata = {"dagster/row_count": sum(built.rows.values()), "features": built.features, "changed": built.written}
        return MaterializeResult(
            metadata=metadata | rows | {"content_hash": built.content_hash, "snapshot": built.snapshot},
            data_version=DataVersion(built.content_hash),
        )

    @asset_check(
        asset=key,
        description="A unique key, labels that come later than the question, features with finite values.",
        blocking=True,
    )
    def can_be_trained_on(hindcast: HindcastResource) -> AssetCheckResult:
        from hindcast.tables.schemas import explain_faults, faults_of
        from hindcast.training.training_set import TABLE, training_schema

        found = hindcast.problem(of)
        schema, table = training_schema(found.problem, _features(found)), found.problem.table(TABLE)
        rows, faults = faults_of(found.lake, found.problem, table, schema)
        text = explain_faults(found.problem, table, faults) if faults else None
        return AssetCheckResult(passed=not faults, description=text, metadata={"rows": rows, "faults": len(faults)})

    @multi_asset_check(
        name=f"{of}_training_set_leaks",
        specs=[
            AssetCheckSpec(name, asset=key, blocking=True, description=description)
            for name, description in _LEAK_ALARMS.items()
        ],
    )
    def training_set_leaks(hindcast: HindcastResource) -> Iterator[AssetCheckResult]:
        """Alarms for what is too good to be true; a training set that raises one trains nothing."""
        from hindcast.evaluation.leak_checks import check_training_set

        found = hindcast.problem(of)
        data = read_training_data(found.lake, found.problem)
        for check in check_training_set(found.problem, data.frame, _features(found), data.windows):
            yield AssetCheckResult(
                asset_key=key,
                check_name=check.name,
                passed=check.holds,
                description=check.detail if check.holds else check.message(),
                metadata={"value": check.value, "limit": check.limit, LIMITS: limits_version(found.problem)},
            )

    @asset(key=[of, "candidates"], deps=[key], kinds={"scikitlearn"})
    def candidates(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Every candidate of the problem file: searched over folds in time, fitted on the training window."""
        from hindcast.training.search import shown_search

        found = hindcast.problem(of)
        fitted = train_candidates(found)
        metadata = {
            "features": len(fitted.features),
            "snapshot": fitted.snapshot,
            "training_hash": fitted.training_hash,
        }
        seconds = {f"{each.name}_core_seconds": round(each.seconds, 1) for each in fitted.fitted}
        search = MetadataValue.md(shown_search(fitted, found.problem.metrics.primary))
        made = [fitted.training_hash, *((each.name, each.parameters) for each in fitted.fitted)]
        return MaterializeResult(
            metadata=metadata | seconds | {"search": search}, data_version=DataVersion(fingerprint(values=made))
        )

    return [training_set, can_be_trained_on, training_set_leaks, candidates]


def _features(workspace: Workspace) -> list[str]:
    from hindcast.features.store import feature_names

    return feature_names(workspace.settings, workspace.problem.feature_service)
