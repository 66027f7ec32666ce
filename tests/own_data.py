"""Four made-up data sets of a newcomer, as files: `python -m tests.own_data returns shop` writes one into a folder.

Each has a task, a shape and a trap of its own; all numbers are drawn with a seed.
"""

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

START = datetime(2023, 1, 1)


@dataclass(frozen=True)
class OwnData:
    """One data set.

    Attributes:
        write: Writes its files into a folder.
        options: Of `hindcast new`, less the name and `--from`.
        shape: What is special about it.
    """

    write: Callable[[Path], None]
    options: tuple[str, ...]
    shape: str


def write_returns(folder: Path, rows: int = 9_000) -> None:
    """Orders of customers who come back, and the products; a return is known up to 30 days later."""
    draw = np.random.default_rng(1)
    customers, products = 400, 60
    taste, fit = draw.normal(0, 1.2, customers), draw.normal(0, 0.8, products)
    prices = draw.gamma(4, 12, products).round(2)
    days = np.sort(draw.uniform(0, 700, rows))
    orders = []
    for number, day in enumerate(days):
        customer, product = int(draw.integers(customers)), int(draw.integers(products))
        gift = bool(draw.random() < 0.15)
        quantity = int(draw.integers(1, 4))
        odds = -1.6 + taste[customer] + fit[product] - 0.8 * gift + 0.3 * (quantity - 1)
        returned = draw.random() < 1 / (1 + np.exp(-odds))
        ordered = START + timedelta(days=float(day))
        back = ordered + timedelta(days=float(draw.uniform(3, 30))) if returned else None
        orders.append(
            (f"o{number:05}", _text(ordered), f"c{customer:03}", f"p{product:02}", quantity, _yes(gift), _yes(returned),
             _text(back) if back else "")
        )  # fmt: skip
    names = ("order_id", "ordered_at", "customer_id", "product_id", "quantity", "gift", "returned", "returned_at")
    _csv(folder / "orders.csv", names, orders)
    kinds = ("shoes", "shirts", "bags")
    rows_of = [(f"p{at:02}", kinds[at % 3], prices[at]) for at in range(products)]
    _csv(folder / "products.csv", ("product_id", "kind", "price"), rows_of)


def write_sales(folder: Path, rows: int = 6_000) -> None:
    """One row per house that is offered once; its price is known when the sale is closed, weeks to months later."""
    draw = np.random.default_rng(2)
    districts = 12
    level = draw.normal(0, 0.25, districts)
    days = np.sort(draw.uniform(0, 720, rows))
    sales = []
    for number, day in enumerate(days):
        district, area = int(draw.integers(districts)), float(draw.gamma(9, 11))
        rooms, built = int(np.clip(area / 25 + draw.normal(0, 0.7), 1, 9)), int(draw.integers(1920, 2023))
        trend = 0.25 * np.sin(day / 110 + district)  # districts rise and fall in their own time
        price = 2500 * area * np.exp(level[district] + trend + 0.002 * (built - 1970) + draw.normal(0, 0.12))
        listed = START + timedelta(days=int(day))
        closed = listed + timedelta(days=int(draw.integers(14, 60)))
        sales.append(
            (f"h{number:05}", f"{listed:%Y-%m-%d}", f"d{district}", round(area, 1), rooms, built, round(price, -2),
             f"{closed:%Y-%m-%d}")
        )  # fmt: skip
    names = ("house", "listed_on", "district", "area_m2", "rooms", "built", "price", "closed_on")
    _csv(folder / "sales.csv", names, sales)


def write_tickets(folder: Path, rows: int = 7_000) -> None:
    """Support tickets whose outcome is corrected at times: the file holds each version, with when it was entered."""
    draw = np.random.default_rng(3)
    teams, reporters = 5, 150
    skill, patience = draw.normal(0, 1.0, (teams, 3)), draw.normal(0, 0.7, (reporters, 3))
    outcomes = ("solved", "escalated", "abandoned")
    days = np.sort(draw.uniform(0, 500, rows))
    versions = []
    for number, day in enumerate(days):
        team, reporter = int(draw.integers(teams)), int(draw.integers(reporters))
        urgent = bool(draw.random() < 0.3)
        score = skill[team] + patience[reporter] + np.array([0.8, 0.6 if urgent else -0.2, 0.0]) + draw.gumbel(0, 1, 3)
        outcome = int(np.argmax(score))
        opened = START + timedelta(days=float(day))
        decided = opened + timedelta(hours=float(draw.gamma(2, 12)))
        first = (outcome + 1) % 3 if draw.random() < 0.06 else outcome  # entered wrongly, put right days later
        head = (f"t{number:05}", _text(opened), f"team{team}", f"r{reporter:03}", _yes(urgent))
        versions.append((*head, "", "", _text(opened)))
        versions.append((*head, outcomes[first], _text(decided), _text(decided)))
        if first != outcome:
            later = decided + timedelta(days=float(draw.uniform(1, 6)))
            versions.append((*head, outcomes[outcome], _text(decided), _text(later)))
    names = ("ticket", "opened_at", "team", "reporter", "urgent", "outcome", "decided_at", "entered_at")
    _csv(folder / "tickets.csv", names, versions)


def write_loads(folder: Path, rows: int = 8_000) -> None:
    """Meter readings of sites at irregular instants, as Parquet, and a weather feed; the load of the hour after."""
    draw = np.random.default_rng(4)
    sites = 25
    size = draw.gamma(5, 20, sites)
    hours = np.sort(draw.exponential(1.0, rows).cumsum() / rows * 24 * 400 * (rows / draw.exponential(1.0, rows).sum()))
    hours = hours / hours.max() * 24 * 400
    weather_hours = np.arange(0, 24 * 401, 3.0)
    cold = 10 + 12 * np.cos(weather_hours / 24 / 365 * 2 * np.pi) + np.convolve(
        draw.normal(0, 3, len(weather_hours)), np.ones(8) / 3, "same"
    )  # fmt: skip
    state = np.zeros(sites)
    readings: dict[str, list[Any]] = {
        name: [] for name in ("reading", "site", "taken_at", "shift", "load_kw", "read_out_at")
    }
    for number, hour in enumerate(hours):
        site = int(draw.integers(sites))
        state[site] = 0.9 * state[site] + draw.normal(0, 0.1)
        degrees = float(np.interp(hour, weather_hours, cold))
        busy = 1.4 if 8 <= hour % 24 < 18 else 0.8
        load = size[site] * busy * np.exp(state[site]) * (1 + 0.02 * max(0.0, 18 - degrees))
        taken = START + timedelta(hours=float(hour))
        readings["reading"].append(number)
        readings["site"].append(f"site{site:02}")
        readings["taken_at"].append(taken)
        readings["shift"].append("day" if busy > 1 else "night")
        readings["load_kw"].append(round(float(load), 3))
        readings["read_out_at"].append(taken + timedelta(hours=float(draw.uniform(1, 20))))
    pl.DataFrame(readings).write_parquet(folder / "readings.parquet")
    feed = [
        (_text(START + timedelta(hours=float(h))), "day", round(float(c), 2))
        for h, c in zip(weather_hours, cold, strict=True)
    ]
    feed += [(at, "night", degrees) for at, _, degrees in feed]
    _csv(folder / "weather.csv", ("measured_at", "shift", "degrees"), feed)


DATA = {
    "returns": OwnData(
        write_returns,
        ("--key", "order_id", "--asked-at", "ordered_at", "--label", "returned"),
        "repeated rows per customer and product, a second file",
    ),
    "sales": OwnData(
        write_sales,
        ("--key", "house", "--asked-at", "listed_on", "--label", "price", "--known-at", "closed_on"),
        "one row per entity",
    ),
    "tickets": OwnData(
        write_tickets,
        ("--key", "ticket", "--asked-at", "opened_at", "--label", "outcome", "--known-at", "decided_at",
         "--corrected-at", "entered_at"),
        "corrections: several versions of a row",
    ),
    "loads": OwnData(
        write_loads,
        ("--key", "reading", "--asked-at", "taken_at", "--label", "load_kw", "--known-at", "read_out_at"),
        "irregular times, Parquet, a second file with times",
    ),
}  # fmt: skip


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}"


def _yes(value: bool | np.bool_) -> str:
    return "yes" if value else "no"


def _csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.own_data")
    parser.add_argument("name", choices=sorted(DATA))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    DATA[arguments.name].write(arguments.folder)
    print(f"Wrote {', '.join(sorted(path.name for path in arguments.folder.iterdir()))} into {arguments.folder}.")


if __name__ == "__main__":
    main()
