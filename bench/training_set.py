"""A training set: 336,776 flights with what was known of each two hours before its departure, from all feature views of
the service `flight_delay`, to an Arrow table in the order of the flights.

Ours is Feast's `get_historical_features` over the lake. Beside it, from the same tables to the same columns:
- the same join by hand in DuckDB over the lake: an ASOF join per view, TTL applied, the columns put side by side. Bar:
  ours takes at most 1.3 times its CPU. All joins in one query are the shorter way to write it, and the slower;
- Polars' `join_asof`, with the views as Parquet sorted by instant. Bar: ours takes at most 1.7 times its CPU;
- Feast's own `duckdb` offline store, with the same Parquet, for the first 10,000 and 34,000 flights: its cost grows
  with flights times history. Bar: ours takes no more CPU.
All must come to the same values. The on-demand view is left out: the peers have no such thing. CPU is that of the work,
from opening store or files on, imports not counted; with start and imports it is told as well.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import homes
from bench.measure import Case, Row, Work, in_turn, once, say
from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.settings import Settings

SERVICE = "flight_delay"
LOCK = Path(__file__).with_name("peers.txt")
SIZES = (10_000, 34_000)
OURS, HAND, ONE_QUERY = "ours", "DuckDB by hand", "DuckDB by hand, one query"
POLARS, STOCK = "Polars join_asof", "Feast's duckdb store"

View = dict[str, Any]
"""What a join must know of a view: name, table, keys and features (name -> Feast's type), ttl in seconds."""


def run(settings: Settings, rounds: int) -> list[Row]:
    home = str(homes.year(settings).home)
    python = peers(settings)
    folder = settings.benchmarks / "training_set"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say("the views as Parquet, for the peers")
    files = str(folder / "views")
    views: list[View] = once(Case("bench.training_set:exporting", (home, files)))["result"]

    whole = {
        OURS: Case("bench.training_set:ours", (home,)),
        HAND: Case("bench.training_set:by_hand", (home, views, False)),
        ONE_QUERY: Case("bench.training_set:by_hand", (home, views, True)),
        POLARS: Case("bench.training_set:by_polars", (files, views)),
    }
    some = {}
    for size in SIZES:
        some[f"{OURS}, {size:,} flights"] = Case("bench.training_set:ours", (home, size))
        some[f"{STOCK}, {size:,} flights"] = Case("bench.training_set:by_the_stock_store", (files, views, size), python)
    taken = in_turn(whole, rounds, folder) | in_turn(some, rounds, folder)

    features = sum(len(view["features"]) for view in views)
    mine, hand, polars = taken[OURS], taken[HAND], taken[POLARS]
    what = f"CPU, all flights, {features} features of {len(views)} views"
    table = [
        Row(what, "s", mine.cpu, hand.cpu, HAND, at_most=1.3),
        Row(what, "s", mine.cpu, taken[ONE_QUERY].cpu, ONE_QUERY),
        Row(what, "s", mine.cpu, polars.cpu, POLARS, at_most=1.7),
        Row("CPU, with start and imports", "s", mine.process_cpu, hand.process_cpu, HAND),
        Row("CPU, with start and imports", "s", mine.process_cpu, polars.process_cpu, POLARS),
        Row("peak memory", "MB", mine.peak / 1e6, hand.peak / 1e6, HAND),
        Row("peak memory", "MB", mine.peak / 1e6, polars.peak / 1e6, POLARS),
    ]
    pairs = [(OURS, HAND), (OURS, ONE_QUERY), (OURS, POLARS)]
    for size in SIZES:
        pair = f"{OURS}, {size:,} flights", f"{STOCK}, {size:,} flights"
        pairs.append(pair)
        mine, stock = taken[pair[0]], taken[pair[1]]
        each = 1e6 / size
        table += [
            Row(f"CPU per 1,000 of {size:,} flights", "ms", mine.cpu * each, stock.cpu * each, STOCK, at_most=1),
            Row(f"peak memory, {size:,} flights", "MB", mine.peak / 1e6, stock.peak / 1e6, STOCK),
        ]
    for ours_, peer in pairs:
        tables = [str(folder / f"{name}.arrow") for name in (ours_, peer)]
        differ = once(Case("bench.training_set:comparing", tuple(tables)))["result"]
        table.append(Row(f"values unlike those of {peer}", "", differ, 0, "limit", at_most=1))
    return table


def peers(settings: Settings) -> str:
    """The interpreter of an environment with what Feast's own offline stores need; made once.

    Ours can't hold that: the compiled sqlglot that comes with dagster-dbt breaks ibis, on which they stand.
    """
    environment = settings.benchmarks / "peers"
    python = environment / "bin" / "python"
    stamp, wanted = environment / "made_from", fingerprint([LOCK], [sys.version])
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"the peers' environment, in {environment}")
        uv = Path(sys.executable).with_name("uv")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment],
            [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", LOCK],
        ):
            if subprocess.run([str(part) for part in command]).returncode:
                raise HindcastError(
                    f"The peers' environment {environment} can't be made: a package index is needed once."
                )
        stamp.write_text(wanted)
    return str(python)


def exporting(home: str, folder: str) -> Work:
    """Writes the entity rows and the service's views as Parquet, these sorted by instant; describes the views."""
    settings = homes.at(home)

    def work() -> list[View]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from hindcast.features.feature_service import find_service, open_store, service_views
        from hindcast.features.lake_source import feature_table
        from hindcast.lake import Lake

        store = open_store(settings)
        service = find_service(store, SERVICE)
        views: list[View] = []
        with Lake(settings).reading() as connection:
            Path(folder).mkdir(parents=True)
            pq.write_table(connection.execute(homes.ENTITY_ROWS).to_arrow_table(), f"{folder}/entity_rows.parquet")
            for view in service_views(store, service)[0]:
                features = [f for p in service.feature_view_projections if p.name == view.name for f in p.features]
                table = feature_table(view, [feature.name for feature in features])
                # What the peers' joins below take for granted.
                assert view.ttl and table.created is None and table.timestamp == "event_timestamp"
                rows = connection.execute(
                    f"SELECT {', '.join([*table.keys, table.timestamp, *table.features])} FROM {table.table} "
                    f"ORDER BY {', '.join([table.timestamp, *table.keys])}"
                ).to_arrow_table()
                at = rows.column_names.index(table.timestamp)
                rows = rows.set_column(at, table.timestamp, rows[table.timestamp].cast(pa.timestamp("us", "UTC")))
                pq.write_table(rows, f"{folder}/{view.name}.parquet")
                kinds = {field.name: field.dtype.to_value_type().name for field in [*view.entity_columns, *features]}
                views.append(
                    {
                        "name": view.name,
                        "table": table.table,
                        "keys": {key: kinds[key] for key in table.keys},
                        "features": {feature: kinds[feature] for feature in table.features},
                        "ttl": int(view.ttl.total_seconds()),
                    }
                )
        return views

    return work


def ours(home: str, rows: int | None = None) -> Work:
    """Through Feast's interface."""
    settings = homes.at(home)
    import hindcast.features.offline_store  # noqa: F401 - Feast imports it when it opens the store
    from hindcast.features.feature_service import find_service, open_store
    from hindcast.lake import Lake

    with Lake(settings).reading() as connection:
        entity_rows = connection.execute(homes.ENTITY_ROWS).to_arrow_table().slice(0, rows)

    def work() -> Any:
        store = open_store(settings)
        on_demand = {view.name for view in store.list_on_demand_feature_views()}
        projections = find_service(store, SERVICE).feature_view_projections
        refs = [f"{p.name}:{field.name}" for p in projections if p.name not in on_demand for field in p.features]
        return store.get_historical_features(entity_rows, refs).to_arrow()

    return work


def by_hand(home: str, views: list[View], in_one_query: bool) -> Work:
    """What somebody writes who knows DuckDB and the lake's tables, and where an ASOF join loses time."""
    settings = homes.at(home)
    import duckdb
    import numpy as np
    import pandas  # noqa: F401 - DuckDB imports it when it is handed rows
    import pyarrow as pa

    from hindcast.lake import Lake
    from hindcast.sql import text_literal

    with Lake(settings).reading() as connection:
        entity_rows = connection.execute(homes.ENTITY_ROWS).to_arrow_table()

    def work() -> pa.Table:
        connection = duckdb.connect(config={"extension_directory": str(settings.duckdb_extensions)})
        connection.execute("LOAD sqlite; LOAD ducklake; SET asof_loop_join_threshold = 0")  # else it takes minutes
        catalogue = text_literal(f"ducklake:sqlite:{settings.lake_catalogue}")
        data = text_literal(f"{settings.lake_data}/")
        options = f"READ_ONLY, DATA_PATH {data}, OVERRIDE_DATA_PATH true"
        connection.execute(f"ATTACH {catalogue} AS lake ({options})")
        connection.execute("USE lake; BEGIN")  # the catalogue is read once, and not for each query
        # Here and not by row_number(), which sorts.
        numbered = entity_rows.append_column("row", pa.array(np.arange(len(entity_rows))))
        connection.register("numbered", numbered)
        connection.execute("CREATE TEMP TABLE e AS FROM numbered")
        if in_one_query:
            return connection.execute(_query(views, "e.* EXCLUDE (row)")).to_arrow_table()
        result = entity_rows
        for view in views:
            found = connection.execute(_query([view])).to_arrow_table()
            for feature in view["features"]:
                result = result.append_column(feature, found[feature])
        return result

    return work


def _query(views: list[View], *selected: str) -> str:
    joins = ""
    for view in views:
        v = view["name"]
        fresh = f"{v}.event_timestamp >= e.event_timestamp - INTERVAL {view['ttl']} SECOND"
        selected += tuple(f"CASE WHEN {fresh} THEN {v}.{feature} END AS {feature}" for feature in view["features"])
        keys = "".join(f"e.{key} = {v}.{key} AND " for key in view["keys"])
        joins += f" ASOF LEFT JOIN {view['table']} {v} ON {keys}e.event_timestamp >= {v}.event_timestamp"
    return f"SELECT {', '.join(selected)} FROM e{joins} ORDER BY e.row"


def by_polars(folder: str, views: list[View]) -> Work:
    import polars as pl

    entity_rows = pl.read_parquet(f"{folder}/entity_rows.parquet")

    def work() -> Any:
        at = pl.col("event_timestamp").cast(pl.Datetime("us", "UTC"))
        frame = entity_rows.with_columns(at).with_row_index("row").sort("event_timestamp")
        for view in views:
            frame = frame.join_asof(
                pl.read_parquet(f"{folder}/{view['name']}.parquet"),
                on="event_timestamp",
                by=list(view["keys"]),
                tolerance=f"{view['ttl']}s",
                check_sortedness=False,  # it can't be checked within keys
            )
        return frame.sort("row").drop("row").to_arrow()

    return work


def by_the_stock_store(folder: str, views: list[View], rows: int) -> Work:
    """Runs in the peers' environment."""
    import tempfile
    from datetime import timedelta

    import pandas as pd
    import pyarrow as pa
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import from_value_type

    entity_rows = pd.read_parquet(f"{folder}/entity_rows.parquet").head(rows)
    entity_rows["event_timestamp"] = entity_rows["event_timestamp"].dt.tz_localize("UTC")
    entity_rows["row"] = range(len(entity_rows))  # the order isn't kept

    def fields(kinds: dict[str, str]) -> list[Field]:
        return [Field(name=name, dtype=from_value_type(ValueType[kind])) for name, kind in kinds.items()]

    entities = {
        key: Entity(name=key, join_keys=[key], value_type=ValueType[kind])
        for view in views
        for key, kind in view["keys"].items()
    }
    declared = [
        FeatureView(
            name=view["name"],
            entities=[entities[key] for key in view["keys"]],
            ttl=timedelta(seconds=view["ttl"]),
            schema=fields(view["keys"] | view["features"]),
            source=FileSource(path=f"{folder}/{view['name']}.parquet", timestamp_field="event_timestamp"),
        )
        for view in views
    ]
    registry = Path(tempfile.mkdtemp(dir=folder), "registry.db")
    config = RepoConfig(
        project="peers",
        provider="local",
        registry=str(registry),
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(registry.with_name("online.db"))},  # else it's made where we stand
        entity_key_serialization_version=3,
    )
    FeatureStore(config=config).apply([*entities.values(), *declared])

    def work() -> pa.Table:
        store = FeatureStore(config=config)
        refs = [f"{view['name']}:{feature}" for view in views for feature in view["features"]]
        found = store.get_historical_features(entity_rows, refs).to_arrow()
        return found.sort_by("row").drop_columns(["row"])

    return work


def comparing(ours: str, peer: str) -> Work:
    """Counts the cells of a kept table that aren't the same in another, row by row; two nulls are the same."""
    import pyarrow.compute as pc
    from pyarrow import feather

    def work() -> int:
        tables = feather.read_table(ours), feather.read_table(peer)
        if len(tables[0]) != len(tables[1]) or set(tables[0].column_names) != set(tables[1].column_names):
            raise ValueError(f"{ours} is {tables[0].shape} and {peer} {tables[1].shape}: they can't be compared.")
        same = 0
        for column in tables[0].column_names:
            left = tables[0][column]
            right = tables[1][column].cast(left.type)
            equal = pc.fill_null(pc.equal(left, right), False)
            same += pc.sum(pc.or_(equal, pc.and_(pc.is_null(left), pc.is_null(right)))).as_py()
        return tables[0].num_rows * tables[0].num_columns - same

    return work
