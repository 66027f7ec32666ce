"""Stage evaluate: how good the candidates are where they haven't learned. Measuring: `hindcast.evaluation.evaluate`."""

from dagster import AssetCheckResult, AssetCheckSpec, DataVersion, MaterializeResult, MetadataValue, asset

from assets.resources import HindcastResource
from hindcast.artefacts import write_json
from hindcast.files import write_atomically
from hindcast.fingerprint import fingerprint
from hindcast.training.training_data import read_training_data


@asset(
    deps=["candidates"],
    check_specs=[
        AssetCheckSpec(
            "model_roc_auc", asset="evaluation", blocking=True, description="No model is too good to be honest."
        )
    ],
    kinds={"scikitlearn"},
)
def evaluation(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """Metrics of every candidate on validation and test, per slice, and beside two baselines; the best is chosen."""
    from hindcast.evaluation.evaluate import evaluate, shown_metrics, shown_slices
    from hindcast.evaluation.leak_checks import check_models
    from hindcast.evaluation.plots import evaluation_plots, importances_of
    from hindcast.pages import as_markdown, as_page
    from hindcast.training.search import Candidates

    settings, problem = hindcast.settings, hindcast.problem
    found = Candidates.load(settings.candidates_file)
    data = read_training_data(hindcast.lake, problem, found.snapshot, found.training_hash)
    result = evaluate(problem, data.frame, found)
    report = write_json(settings.reports / "evaluation.json", result.report)
    pictures = evaluation_plots(result, importances_of(result, found, problem.budget.seed), problem.metrics.primary)
    tables = {
        "Candidates": shown_metrics(result.report["candidates"]),
        "Without a model": shown_metrics(result.baseline_entries),
        "Slices of the test window": shown_slices(result.report["slices"]),
    }
    page = settings.reports / "evaluation.html"
    write_atomically(page, as_page(f"{problem.name}: {result.chosen}", problem.question, tables, pictures))
    check = check_models(problem, result.report["candidates"])
    return MaterializeResult(
        metadata={
            "chosen": result.chosen,
            "threshold": result.chosen_report["threshold"],
            "report": MetadataValue.path(page),
            **{name: MetadataValue.md(table) for name, table in tables.items()},
            **{title: MetadataValue.md(picture) for title, picture in as_markdown(pictures).items()},
        },
        data_version=DataVersion(fingerprint(values=[report])),
        check_results=[
            AssetCheckResult(
                check_name="model_roc_auc",
                passed=check.holds,
                description=check.detail if check.holds else check.message(),
                metadata={"value": check.value, "limit": check.limit},
            )
        ],
    )
