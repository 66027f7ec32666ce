"""What a run says of checks that fail: on the terminal as in the run's last words, with all that the check says."""

from collections.abc import Iterator

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    Definitions,
    MaterializeResult,
    asset,
    define_asset_job,
    multi_asset_check,
)

from assets.progress import failures_of, terse_logger

FOUND = "area is 0.9 (limit 0.8): feature weight alone tells the label apart. Look at problems/x.yaml: leakage.max."


@asset(check_specs=[AssetCheckSpec("share", asset="rows", blocking=True), AssetCheckSpec("gaps", asset="rows")])
def rows() -> MaterializeResult:  # type: ignore[type-arg]
    return MaterializeResult(
        check_results=[
            AssetCheckResult(check_name="share", passed=False, description="3 rows of 5 rejected."),
            AssetCheckResult(check_name="gaps", passed=False, severity=AssetCheckSeverity.WARN, description="a few"),
        ]
    )


@asset
def table() -> None: ...


@multi_asset_check(
    specs=[AssetCheckSpec(name, asset="table", blocking=True) for name in ("area", "known")],
)
def leaks() -> Iterator[AssetCheckResult]:
    yield AssetCheckResult(asset_key="table", check_name="area", passed=False, description=FOUND)
    yield AssetCheckResult(asset_key="table", check_name="known", passed=True, description="all is well")


@asset
def broken() -> None:
    raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("names", "shown", "stopped"),
    [
        (
            ["rows"],
            ["✗ rows share: 3 rows of 5 rejected.", "! rows gaps: a few"],
            ["rows share: 3 rows of 5 rejected."],
        ),
        (["table"], [f"✗ table area: {FOUND}"], [f"table area: {FOUND}"]),
        (["broken"], ["✗ broken  ValueError: no such thing"], ["broken: ValueError: no such thing"]),
    ],
)
def test_a_failed_check_is_shown_in_its_own_words(
    capfd: pytest.CaptureFixture[str], names: list[str], shown: list[str], stopped: list[str]
) -> None:
    job = define_asset_job("job", selection=names, config={"loggers": {"console": {}}})
    definitions = Definitions(
        assets=[rows, table, broken], asset_checks=[leaks], jobs=[job], loggers={"console": terse_logger}
    )
    done = definitions.resolve_job_def("job").execute_in_process(raise_on_error=False)
    lines = [line.strip() for line in capfd.readouterr().out.splitlines()]
    assert [line for line in lines if line[:1] in "✗!"] == shown
    assert failures_of(done.all_events) == stopped
