"""Stage package: the chosen candidate as a package, the gate's verdict on it, and the champion.

Packaging is `hindcast.package.build`'s work, judging `hindcast.promotion.gate`'s.
"""

from dataclasses import replace

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.resources import HindcastResource
from hindcast.artefacts import require_json
from hindcast.checks import Check
from hindcast.training.training_data import read_training_data


@asset(deps=["evaluation"], kinds={"onnx"})
def model_package(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """The chosen candidate as ONNX graph, signature, numbers, card and checksums."""
    from hindcast.features.definition import definition
    from hindcast.package.build import build, request_columns
    from hindcast.training.search import Candidates

    settings, problem = hindcast.settings, hindcast.problem
    candidates = Candidates.load(settings.candidates_file)
    data = read_training_data(hindcast.lake, problem, candidates.snapshot, candidates.training_hash)
    report = require_json(settings.reports / "evaluation.json")
    columns, defined = request_columns(settings, problem.feature_service), definition(settings, problem.feature_service)
    registry = settings.feast_registry.read_bytes()
    built = build(settings, problem, data, candidates, report, *columns, defined, registry, hindcast.lake.identity())
    return MaterializeResult(
        metadata={
            "version": built.version,
            "path": MetadataValue.path(built.folder),
            "parity_rows": built.parity["rows"],
            "parity_max_difference": built.parity["max_difference"],
            "card": MetadataValue.md((built.folder / "card.md").read_text()),
        },
        data_version=DataVersion(built.version),
    )


@asset(
    deps=["model_package"],
    check_specs=[AssetCheckSpec("gate", asset="verdict", description="Every check on the challenger holds.")],
)
def verdict(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """Whether the package may be used: each check with its value and limit, kept as a file."""
    from hindcast.package.build import challenger_folder
    from hindcast.promotion.gate import evaluate_gate, shown_checks
    from hindcast.promotion.verdict import ALREADY
    from hindcast.training.search import Candidates

    settings, problem = hindcast.settings, hindcast.problem
    candidates = Candidates.load(settings.candidates_file)
    data = read_training_data(hindcast.lake, problem, candidates.snapshot, candidates.training_hash)
    report = require_json(settings.reports / "evaluation.json")
    said = evaluate_gate(settings, problem, data, report, challenger_folder(settings), hindcast.clock.now())
    accepted = said.promoted or said.verdict == ALREADY
    return MaterializeResult(
        metadata={
            "version": said.version,
            "verdict": said.verdict,
            "question": said.question or "none: there is no other champion",
            "changed": list(said.changed),
            "champion_before": said.champion or "none",
            "checks": MetadataValue.md(shown_checks(said.checks)),
        },
        data_version=DataVersion(f"{said.version} {accepted}"),
        check_results=[
            AssetCheckResult(
                check_name="gate",
                passed=accepted,
                severity=AssetCheckSeverity.WARN,
                description=" ".join(_describe(problem.name, check) for check in said.checks if not check.holds)
                or "all hold",
            )
        ],
    )


def _describe(problem: str, check: Check) -> str:
    """A check of the gate in words; where it doesn't say which key of the problem file holds its limit, by its name."""
    keys = {"gain_over_baseline_at_least": "baseline.min_gain", "not_worse_than_champion": "metrics.tolerance"}
    for end, bound in (("_at_least", "min"), ("_at_most", "max")):
        if check.name.startswith("test_") and check.name.endswith(end):
            keys[check.name] = f"metrics.bars.{check.name.removeprefix('test_').removesuffix(end)}.{bound}"
    if not check.look_at and check.name in keys:
        check = replace(check, look_at=f"problems/{problem}.yaml: {keys[check.name]}")
    return check.message()


@asset(deps=["verdict"])
def champion(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """The package in use: the challenger if the gate promoted it, else the one before."""
    from hindcast.features.materialise import fill_for
    from hindcast.package.build import challenger_folder
    from hindcast.promotion.champion import apply_verdict, champion_folder

    settings, now = hindcast.settings, hindcast.clock.now()
    challenger = challenger_folder(settings).name
    entry = apply_verdict(settings, challenger, now, lambda folder: fill_for(settings, folder, now))
    return MaterializeResult(
        metadata={
            "version": entry["version"],
            "path": MetadataValue.path(champion_folder(settings)),
            "promoted_at": entry["promoted_at"],
            "previous": entry["previous"] or "none",
            "promotions": len(entry["history"]),
        },
        data_version=DataVersion(entry["version"]),
    )
