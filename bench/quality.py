"""How good the built-in problems' models are on data that came after them.

Of the flights, models made as of 1 November 2013 by the problem's own file, on November and December: features as known
then, labels as they came. Bars: flight_delay's area under the ROC curve at least 0.765; arrival_delay's mean absolute
error 10 % below that of the historic mean per carrier and hour, and its 80 % intervals hold 76 to 84 % of the delays;
flight_outcome's log loss 10 % below that of the classes' rates per carrier and hour. Of dengue, two years that its
models have never seen (`quality_dengue`). Bar: better by 8 % than either count of last week.
"""

from datetime import UTC, datetime
from typing import Any

from bench import homes, quality_dengue
from bench.measure import Case, Row, Work, once, say
from hindcast.settings import Settings

AS_OF = "2013-11-01T00:00:00Z"
NOVEMBER, DECEMBER, JANUARY = (
    datetime(year, month, 1, tzinfo=UTC) for year, month in ((2013, 11), (2013, 12), (2014, 1))
)
PERIOD, MONTHS = (NOVEMBER, JANUARY), {"November": (NOVEMBER, DECEMBER), "December": (DECEMBER, JANUARY)}
ONCE = "once"


def run(settings: Settings, rounds: int) -> list[Row]:
    home = str(homes.year(settings).home)
    found: dict[str, dict[str, Any]] = {}
    for problem in ("flight_delay", "arrival_delay", "flight_outcome"):
        say(f"{problem}: made as of {AS_OF}, judged on November and December")
        found[problem] = once(Case("bench.quality:judging", (home, problem)))["result"]
    delay, minutes, outcome = found.values()
    coverage, mae, loss = minutes["coverage"], minutes["mae"], outcome["log_loss"]
    return [
        Row("flight_delay, ROC AUC", "", delay["roc_auc"], 0.765, "limit", at_least=1),
        Row("arrival_delay, MAE", "min", mae, minutes["baseline_mae"], "historic mean", at_most=0.9),
        Row("arrival_delay, coverage of 80 % intervals", "", coverage, 0.76, "limit", at_least=1),
        Row("arrival_delay, coverage of 80 % intervals", "", coverage, 0.84, "limit", at_most=1),
        *(Row(f"  {month}", "", value, 0.8, "promise") for month, value in minutes["by_month"].items()),
        Row("flight_outcome, log loss", "", loss, outcome["baseline_log_loss"], "class rates", at_most=0.9),
        *quality_dengue.run(settings, rounds),
    ]


def judging(home: str, name: str) -> Work:
    """Makes a problem's package as of 1 November in the year's home, and measures it on what came after."""
    settings = homes.at(home).of(name)

    def work() -> dict[str, Any]:
        from hindcast.evaluation.scoring import evaluate_period
        from hindcast.features.store import apply
        from hindcast.home import prepare
        from hindcast.package.model import ServedModel
        from hindcast.pipeline import (
            build_data,
            evaluate_candidates,
            package_candidate,
            train_candidates,
            write_windows,
        )
        from hindcast.training.training_set import build
        from hindcast.workspace import open_workspace

        prepare(settings)
        workspace = open_workspace(settings)
        problem, lake = workspace.problem, workspace.lake
        apply(settings, problem.domain)
        write_windows(workspace, AS_OF)
        build_data(workspace, say)
        build(settings, problem, lake)
        train_candidates(workspace)
        evaluate_candidates(workspace)
        model = ServedModel.load(package_candidate(workspace).folder)
        measured = [evaluate_period(settings, problem, lake, model, *period) for period in (PERIOD, *MONTHS.values())]
        by_month = {month: each.get("coverage") for month, each in zip(MONTHS, measured[1:], strict=True)}
        return measured[0] | {"by_month": by_month}

    return work
