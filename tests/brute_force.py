"""Flights' features straight from the raw rows that were known at an instant, written differently from the SQL.

No running sums, no grids but the instants at which they stand. Slow and plain: what the SQL is held against.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from hindcast.lake import Lake

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NEW_YORK, PUERTO_RICO = ZoneInfo("America/New_York"), ZoneInfo("America/Puerto_Rico")
HOLIDAYS = [date(2013, 1, 1), date(2013, 1, 21), date(2013, 2, 18)]


LEG = ("leg_expected_arrival_minute", "leg_block_minutes", "leg_departure_delay", "leg_overdue", "leg_arrived")
WEATHER = (
    "temperature", "dew_point", "humidity", "wind_direction", "wind_speed", "wind_gust", "visibility",
    "min_visibility_3h", "rain_3h", "pressure", "pressure_change_6h", "missing_count", "pressure_missing",
)  # fmt: skip


def rows(lake: Lake, sql: str) -> pl.DataFrame:
    with lake.reading() as connection:
        return connection.execute(sql).pl()


def plausible_planes(lake: Lake, at: datetime | None = None) -> dict[str, dict]:
    """The register as known at an instant (None: now), by tail number, without what can't be an airliner."""
    known = as_known(rows(lake, "FROM raw.planes"), at or datetime(9999, 1, 1))
    kept = known.filter(pl.col("seats") > 10, type="Fixed wing multi engine")
    return {row["tailnum"]: row for row in kept.iter_rows(named=True)}


def as_known(versions: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Of a raw table's rows, the versions that were known at an instant."""
    until = pl.col("_known_until").is_null() | (pl.col("_known_until") > at)
    return versions.filter(pl.col("_known_at") <= at, until)


def flight_id(flight: dict) -> str:
    day = date(flight["year"], flight["month"], flight["day"])
    return "|".join([str(day), flight["origin"], flight["carrier"], str(flight["flight"])])


def raw_flights(lake: Lake) -> pl.DataFrame:
    """The raw flights with their instants, by Python's own calendar."""
    zones = dict(rows(lake, "SELECT faa, tzone FROM raw.airports WHERE _known_until IS NULL").iter_rows())
    flights = rows(lake, "FROM raw.flights")
    scheduled, arrivals = [], []
    for row in flights.select("time_hour", "minute", "sched_arr_time", "dest").iter_rows(named=True):
        departs = (row["time_hour"] + timedelta(minutes=row["minute"])).replace(tzinfo=UTC)
        zone = ZoneInfo(zones[row["dest"]]) if row["dest"] in zones else PUERTO_RICO
        hour, minute = divmod(row["sched_arr_time"], 100)
        arrives = departs.astimezone(zone).replace(hour=hour % 24, minute=minute)
        while arrives <= departs:
            arrives += DAY
        scheduled.append(departs.replace(tzinfo=None))
        arrivals.append(arrives.astimezone(UTC).replace(tzinfo=None))
    minutes = pl.duration
    return flights.with_columns(
        pl.Series("departs", scheduled, dtype=pl.Datetime("us")),
        pl.Series("arrives", arrivals, dtype=pl.Datetime("us")),
    ).with_columns(
        departed=pl.col("departs") + minutes(minutes=pl.col("dep_delay")),
        arrived=pl.col("arrives") + minutes(minutes=pl.col("arr_delay")),
        block=(pl.col("arrives") - pl.col("departs")).dt.total_minutes(),
    )


class AsKnown:
    """What was known at one instant, from the raw rows alone."""

    def __init__(self, flights: pl.DataFrame, weather: pl.DataFrame, at: datetime, ttl: bool = False) -> None:
        self.at, self.ttl = at, ttl
        known = as_known(flights, at)
        left = pl.col("_departure_known_at") <= at
        landed = pl.col("_arrival_known_at") <= at
        self.flights = known.with_columns(
            departed=pl.when(left).then("departed"), dep_delay=pl.when(left).then("dep_delay"),
            arrived=pl.when(landed).then("arrived"), arr_delay=pl.when(landed).then("arr_delay"),
        )  # fmt: skip
        self.weather = as_known(weather, at).sort("time_hour")

    def outcomes(self, **keys: object) -> pl.DataFrame:
        """Known outcomes of the flights with these values, as `late` and `since`."""
        flights = self.flights.filter(*[pl.col(name) == value for name, value in keys.items()])
        deadline = pl.col("arrives") + pl.duration(minutes=15)
        on_time = pl.col("arrived") < deadline
        return flights.select(
            late=pl.when(on_time).then(0).when(deadline <= self.at).then(1),
            since=pl.when(on_time).then("arrived").when(deadline <= self.at).then(deadline),
        ).drop_nulls()

    def anything(self, step: timedelta, *also: str, **keys: object) -> bool:
        """Whether anything was known of these flights at the last point of a grid of such steps."""
        instants = [self.outcomes(**keys)["since"]]
        flights = self.flights.filter(*[pl.col(name) == value for name, value in keys.items()])
        instants += [flights[name].drop_nulls() for name in also]
        first = min((column.min() for column in instants if len(column)), default=None)
        return first is not None and first <= grid_point(self.at, step)

    def late_rate(self, step: timedelta, window: timedelta, **keys: object) -> float:
        end = grid_point(self.at, step)
        outcomes = self.outcomes(**keys).filter(pl.col("since") > end - window, pl.col("since") <= end)
        return (int(outcomes["late"].sum()) + 0.22 * 20) / (len(outcomes) + 20)

    def delays(self, instant: str, delay: str, step: timedelta, window: timedelta, **keys: object) -> list[int]:
        end = grid_point(self.at, step)
        flights = self.flights.filter(*[pl.col(name) == value for name, value in keys.items()])
        return flights.filter(pl.col(instant) > end - window, pl.col(instant) <= end)[delay].to_list()

    def overdue(self, origin: str) -> list[float]:
        """Minutes since schedule of the flights that are waited for."""
        at = grid_point(self.at, HOUR / 4)
        ages = [
            (at - departs).total_seconds() / 60
            for departs, departed in self.flights.filter(origin=origin).select("departs", "departed").iter_rows()
            if departed is None or departed > at
        ]
        return [age for age in ages if 15 <= age < 360]

    def newest_leg(self, tail: str | None) -> dict[str, float | None]:
        events = []
        legs = self.flights.filter(tailnum=tail) if tail else self.flights.clear()
        for leg in legs.iter_rows(named=True):
            due = leg["departs"] + HOUR / 4
            block = timedelta(minutes=leg["block"])
            if due <= self.at and (leg["departed"] is None or leg["departed"] > due):
                events.append((due, leg["departs"], 1, due + block, 15, leg["block"]))
            if leg["departed"] is not None:
                events.append(
                    (leg["departed"], leg["departs"], 2, leg["departed"] + block, leg["dep_delay"], leg["block"])
                )
            if leg["arrived"] is not None:
                events.append((leg["arrived"], leg["departs"], 3, leg["arrived"], leg["dep_delay"], leg["block"]))
        if not events:
            return dict.fromkeys(LEG)
        newest = max(departs for _, departs, *_ in events)
        since, _, kind, arrival, delay, block = max(event for event in events if event[1] == newest)
        if self.ttl and since < self.at - DAY:
            return dict.fromkeys(LEG)
        return {
            "leg_expected_arrival_minute": epoch_minute(arrival),
            "leg_block_minutes": block,
            "leg_departure_delay": delay,
            "leg_overdue": float(kind == 1),
            "leg_arrived": float(kind == 3),
        }

    def weather_at(self, origin: str) -> dict[str, float | None]:
        hours = {row["time_hour"]: row for row in self.weather.filter(origin=origin).iter_rows(named=True)}
        newest = max(hours)
        if self.ttl and hours[newest]["_known_at"] < self.at - 6 * HOUR:
            return dict.fromkeys(WEATHER)
        row = hours[newest]
        before = [hours[newest - n * HOUR]["temp"] for n in range(1, 7) if newest - n * HOUR in hours]
        usual = pl.Series(before).median() if before else None
        odd = usual is not None and row["temp"] is not None and abs(row["temp"] - usual) > 30
        last = [hours[newest - n * HOUR] for n in range(3) if newest - n * HOUR in hours]
        earlier = hours.get(newest - 6 * HOUR, {}).get("pressure")
        storm = (row["wind_speed"] or 0) > 150
        speed = None if storm else row["wind_speed"]
        gust = None if storm else (row["wind_gust"] if row["wind_gust"] is not None else speed)
        temperature, dew_point = (None, None) if odd else (row["temp"], row["dewp"])
        seen = (temperature, row["humid"], row["wind_dir"], speed, row["pressure"], row["visib"])
        return {
            "temperature": temperature,
            "dew_point": dew_point,
            "humidity": row["humid"],
            "wind_direction": row["wind_dir"],
            "wind_speed": speed,
            "wind_gust": gust,
            "visibility": row["visib"],
            "min_visibility_3h": min(hour["visib"] for hour in last),
            "rain_3h": sum(hour["precip"] for hour in last),
            "pressure": row["pressure"],
            "pressure_change_6h": None if None in (row["pressure"], earlier) else row["pressure"] - earlier,
            "missing_count": float(sum(value is None for value in seen)),
            "pressure_missing": float(row["pressure"] is None),
        }


def grid_point(instant: datetime, step: timedelta) -> datetime:
    """The last point of a grid since midnight that is not after the instant."""
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (instant - midnight) // step * step


def epoch_minute(instant: datetime) -> float:
    return instant.replace(tzinfo=UTC).timestamp() / 60


def mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def brute_force(
    flight: dict,
    flights: pl.DataFrame,
    weather: pl.DataFrame,
    planes: dict[str, dict],
    ttl: bool = False,
    at: datetime | None = None,
) -> dict:
    """Every feature of one flight, as known two hours before its departure.

    Args:
        flight: A row of `flights`.
        flights: As of `raw_flights`: all versions of the raw rows.
        weather: The raw table.
        planes: Plausible registrations.
        ttl: Whether news that a feature view's TTL has outlived counts as none.
        at: Another instant (UTC, without a zone) to know the features at.
    """
    known = AsKnown(flights, weather, at or flight["departs"] - 2 * HOUR, ttl)
    origin, carrier, dest, number = (flight[name] for name in ("origin", "carrier", "dest", "flight"))
    local = flight["departs"].replace(tzinfo=UTC).astimezone(NEW_YORK)
    gap = (pl.col("departs") - flight["departs"]).dt.total_minutes().abs()
    plane = planes.get(flight["tailnum"], {})
    overdue = known.overdue(origin)
    values = {
        "carrier_code": carrier,
        "origin_code": origin,
        "minute_of_day": local.hour * 60 + local.minute,
        "weekday": local.isoweekday(),
        "days_to_holiday": min(7, *(abs((local.date() - day).days) for day in HOLIDAYS)),
        "block_minutes": flight["block"],
        "distance_miles": flight["distance"],
        "departures_within_hour": known.flights.filter(gap <= 60, origin=origin).height,
        "scheduled_departure_minute": epoch_minute(flight["departs"]),
        "age_years": 2013 - plane["year"] if plane.get("year") else None,
        "seats": plane.get("seats"),
        "departed_1h": len(known.delays("departed", "dep_delay", HOUR / 4, HOUR, origin=origin)),
        "mean_departure_delay_1h": mean(known.delays("departed", "dep_delay", HOUR / 4, HOUR, origin=origin)),
        "mean_departure_delay_3h": mean(known.delays("departed", "dep_delay", HOUR / 4, 3 * HOUR, origin=origin)),
        "overdue_count": len(overdue),
        "overdue_minutes": sum(overdue) / len(overdue) if overdue else 0,
    }
    if not known.anything(HOUR / 4, "departed", origin=origin):  # the first flights of the data
        values |= dict.fromkeys(("departed_1h", "overdue_count", "overdue_minutes"))
    values |= known.weather_at(origin)
    values |= known.newest_leg(flight["tailnum"])
    windows = {"3h": 3 * HOUR, "24h": DAY, "7d": 7 * DAY, "28d": 28 * DAY}
    for prefix, step, names, keys, also in (
        ("origin", HOUR / 4, ["3h", "24h", "7d"], {"origin": origin}, ("departed",)),
        ("carrier", HOUR, ["3h", "24h", "7d", "28d"], {"carrier": carrier}, ()),
        ("origin_carrier", HOUR, ["3h", "24h", "7d"], {"origin": origin, "carrier": carrier}, ("departed",)),
        ("destination", HOUR, ["24h", "7d", "28d"], {"dest": dest}, ("arrived",)),
        ("route", 3 * HOUR, ["24h", "7d", "28d"], {"origin": origin, "dest": dest}, ()),
    ):
        exists = known.anything(step, *also, **keys)
        for name in names:
            values[f"{prefix}_late_rate_{name}"] = known.late_rate(step, windows[name], **keys) if exists else None
    departed = known.delays("departed", "dep_delay", HOUR, 3 * HOUR, origin=origin, carrier=carrier)
    values["origin_carrier_mean_departure_delay_3h"] = mean(departed)
    for name in ("3h", "24h"):
        arrived = known.delays("arrived", "arr_delay", HOUR, windows[name], dest=dest)
        values[f"destination_mean_arrival_delay_{name}"] = mean(arrived)
    left = known.delays("arrived", "dep_delay", HOUR, DAY, dest=dest)
    made_up = [before - after for before, after in zip(left, arrived, strict=True)]
    values["destination_mean_minutes_made_up_24h"] = mean(made_up)
    outcomes = known.outcomes(carrier=carrier, flight=number)
    last = outcomes["since"].max()
    if ttl and last and last < known.at - 28 * DAY:
        last = None
    recent = outcomes.filter(pl.col("since") > last - 28 * DAY) if last else outcomes
    values["flight_number_late_rate_28d"] = (recent["late"].sum() + 4.4) / (len(recent) + 20) if last else None
    values["last_is_late"] = outcomes.filter(since=last)["late"].max() if last else None
    values["outcomes_28d"] = len(recent) if last else None
    return values


def unequal(found: dict, expected: dict) -> list[tuple[str, object, object]]:
    """Name, found and expected value of what differs by more than rounding."""
    return [
        (name, found[name], value)
        for name, value in expected.items()
        if not (
            found[name] == value
            if isinstance(value, str) or value is None or found[name] is None
            else abs(found[name] - value) <= 1e-6
        )
    ]
