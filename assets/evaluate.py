"""How good the candidates are where they haven't learned. Measuring is `hindcast.evaluation.evaluate`'s work."""

from dagster import (
    AssetCheckResult,
    AssetChecksDefinition,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
    asset_check,
)

from assets.inputs import LIMITS, limits_version
from assets.resources import HindcastResource
from hindcast.artefacts import to_json
from hindcast.fingerprint import fingerprint
from hindcast.pipeline import evaluate_candidates, evaluation_report
from hindcast.workspace import Workspace


def build_evaluation(workspace: Workspace) -> list[AssetsDefinition | AssetChecksDefinition]:
    """The asset `<problem>/evaluation`, and the alarm on it."""
    of = workspace.problem.name
    key = AssetKey([of, "evaluation"])

    @asset(key=key, deps=[AssetKey([of, "candidates"])], kinds={"scikitlearn"})
    def evaluation(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Metrics of every candidate on validation and test, per slice and beside two baselines; chooses one."""
        from hindcast.pages import as_markdown

        found = hindcast.problem(of)
        result, tables, pictures = evaluate_candidates(found)
        drawn = tables | as_markdown(pictures)
        return MaterializeResult(
            metadata={
                "chosen": result.chosen,
                **result.chosen_report["calibration"],
                "report": MetadataValue.path(found.settings.reports / "evaluation.html"),
                **{title: MetadataValue.md(text) for title, text in drawn.items()},
            },
            data_version=DataVersion(fingerprint(values=[to_json(result.report)])),
        )

    @asset_check(asset=key, blocking=True, description="No model is too good to be honest.")
    def model_roc_auc(hindcast: HindcastResource) -> AssetCheckResult:
        from hindcast.evaluation.leak_checks import check_models

        found = hindcast.problem(of)
        check = check_models(found.problem, evaluation_report(found)["candidates"])
        return AssetCheckResult(
            passed=check.holds,
            description=check.detail if check.holds else check.message(),
            metadata={"value": check.value, "limit": check.limit, LIMITS: limits_version(found.problem)},
        )

    return [evaluation, model_roc_auc]
