"""The page on training/serving parity: its tables and pictures. What they show is measured in `parity`."""

from typing import Any

from hindcast.monitoring.parity import Parity
from hindcast.pages import as_page, draw, markdown_table

_SHOWN_FEATURES = 20
_BLUE, _ORANGE = "#2b6cb0", "#dd6b20"


def pictures(parity: Parity) -> dict[str, bytes]:
    """PNG bytes by title: how often each feature had changed, and by how much predictions would; none if nothing."""
    drawn = {}
    if changed := parity.staleness["features"]:
        drawn["Requests whose feature had changed"] = draw(lambda axes: _shares(axes, changed), size=(7.5, 5))
    if histogram := parity.staleness["histogram"]:
        title = f"Change of the {parity.quantity}"
        drawn[title] = draw(lambda axes: _changes(axes, histogram, parity.quantity), size=(7.5, 4))
    return drawn


def tables(parity: Parity) -> dict[str, str]:
    """Markdown tables by title: what was compared, what is skewed, what was stale, and what can't be checked."""
    found = {"Compared": _compared(parity)}
    if parity.skew["examples"]:
        found["Skew, by example"] = markdown_table(parity.skew["examples"])
    if parity.staleness["features"]:
        found["Staleness"] = markdown_table(parity.staleness["features"])
    if parity.unchecked:
        rows = [each | {"examples": ", ".join(each["examples"])} for each in parity.unchecked]
        found["Not checked"] = markdown_table(rows)
    return found


def page(parity: Parity, problem: str, drawn: dict[str, bytes]) -> str:
    """The page: one sentence, the tables, the pictures."""
    return as_page(f"{problem}: what was served, computed again", parity.summary, tables(parity), drawn)


def _compared(parity: Parity) -> str:
    predictions, stale = parity.predictions, parity.staleness
    rows: dict[str, Any] = {
        "requests in the window": parity.requests,
        "checked": parity.checked,
        "feature values": parity.cells,
        "skewed values": parity.skew["cells"],
        "views of which another row was taken": sum(parity.skew["views"].values()),
        "values of which the lake tells otherwise today": parity.rewritten["cells"],
        "predictions": predictions["compared"],
        "of them equal to the last bit": predictions["equal"],
        "largest difference": predictions["max_difference"],
        "beyond the tolerance": parity.skew["predictions"],
        "requests of which anything had changed since the store was filled": stale["requests"],
        "age of the store in minutes, median": _minutes(stale["store_age"]["median"]),
        "age of the store in minutes, most": _minutes(stale["store_age"]["max"]),
    }
    for name, effect in (("skew", parity.skew["effect"]), ("staleness", stale["effect"])):
        if effect:
            rows |= {
                f"mean change of the {parity.quantity} by {name}": effect["mean"],
                f"largest change of the {parity.quantity} by {name}": effect["max"],
            }
            if effect["flips"] is not None:
                rows[f"decisions turned by {name}"] = effect["flips"]
    return markdown_table([{"what": what, "found": value} for what, value in rows.items()])


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def _shares(axes: Any, changed: list[dict[str, Any]]) -> None:
    shown = changed[:_SHOWN_FEATURES][::-1]
    axes.barh([each["feature"] for each in shown], [each["share"] for each in shown], color=_BLUE, label="changed")
    missing = [each["missing_share"] for each in shown]
    axes.barh([each["feature"] for each in shown], missing, color=_ORANGE, label="came or went")
    axes.tick_params(axis="y", labelsize=8)
    axes.set(xlabel="share of requests", title="Changed between the filling of the store and the request")
    axes.legend(frameon=False)


def _changes(axes: Any, histogram: dict[str, list[float]], quantity: str) -> None:
    axes.stairs(histogram["counts"], histogram["edges"], fill=True, color=_BLUE)
    axes.set(
        yscale="log",
        xlabel=f"{quantity} as of the request, less what was answered",
        ylabel="requests",
        title="What staleness does to the prediction",
    )
