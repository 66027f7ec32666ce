"""A small domain made up for the tests, and a second problem of the flights' domain: added to a checkout as files."""

import math
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
HARBOURS, DAYS = ("north", "south", "east"), 120

SOURCES = """
folder: tides
clock: {start: 2024-04-20T00:00:00Z, demo_until: 2024-04-22T00:00:00Z, refresh_every: 12 hours}
tables:
  readings:
    file: readings.csv
    format: csv
    columns: {reading: VARCHAR, harbour: VARCHAR, read_at: TIMESTAMP, level: DOUBLE}
    key: [reading]
    known: {at: read_at}
"""
MODELS = {
    "_sources.yml": "version: 2\nsources: [{name: raw, database: lake, schema: raw, tables: [{name: readings}]}]\n",
    "staging/stg_readings.sql": "select reading, harbour, read_at, level, _known_at as known_at from "
    "{{ source('raw', 'readings') }}\n",
    "labeled/harbour_floods.sql": """
        select
            reading, harbour, read_at - interval 6 hour as asked_at,
            cast(level > 2 as integer) as flooded, read_at as flooded_known_at
        from {{ ref("stg_readings") }}
    """,
    "labeled/_labeled.yml": """
        version: 2
        models:
          - name: harbour_floods
            description: One row per reading.
            columns:
              - {name: reading, data_type: varchar}
              - {name: harbour, data_type: varchar}
              - {name: asked_at, data_type: timestamp}
              - {name: flooded, data_type: integer}
              - {name: flooded_known_at, data_type: timestamp}
    """,
    "split/harbour_splits.sql": """
        select floods.*, windows.split
        from {{ ref("harbour_floods") }} as floods
        inner join {{ source("control", "windows") }} as windows
            on floods.asked_at >= windows.starts_at and floods.asked_at < windows.ends_at
            and floods.flooded_known_at <= windows.ends_at
        where windows.problem = 'high_tide'
    """,
    "split/_split.yml": """
        version: 2
        models:
          - name: harbour_splits
            description: One row per reading that a split admits.
            columns:
              - {name: reading, data_type: varchar}
              - {name: harbour, data_type: varchar}
              - {name: asked_at, data_type: timestamp}
              - {name: flooded, data_type: integer}
              - {name: flooded_known_at, data_type: timestamp}
              - {name: split, data_type: varchar}
    """,
    "features/harbour_levels.sql": """
        select harbour, known_at as event_timestamp, level
        from {{ ref("stg_readings") }} where {{ since_held("known_at") }}
    """,
    "features/_features.yml": """
        version: 2
        models:
          - name: harbour_levels
            description: One row per harbour and reading.
            config: {meta: {entity_keys: [harbour]}}
            columns:
              - {name: harbour, data_type: varchar}
              - {name: event_timestamp, data_type: timestamp}
              - {name: level, data_type: double}
    """,
}
VIEWS = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, String

from hindcast.features.lake_source import LakeSource

harbour = Entity(name="harbour", value_type=ValueType.STRING)
harbour_levels = FeatureView(
    name="harbour_levels",
    entities=[harbour],
    ttl=timedelta(days=2),
    schema=[Field(name="harbour", dtype=String), Field(name="level", dtype=Float64)],
    source=LakeSource(name="harbour_levels", table="features.harbour_levels"),
)
high_tide = FeatureService(name="high_tide", features=[harbour_levels])
"""
CANCELLED = """
{{ config(materialized="incremental", unique_key="flight_id") }}

select
    flight_id,
    origin,
    carrier,
    destination,
    flight_number,
    tail_number,
    scheduled_departure_at,
    scheduled_arrival_at,
    scheduled_hour,
    {{ add_minutes("scheduled_departure_at", -120) }} as prediction_time,
    case
        when arrived_at is not null then 0
        when {{ add_minutes("scheduled_arrival_at", 720) }} <= {{ known_until() }} then 1
    end as is_cancelled,
    case
        when arrived_at is not null then arrived_at
        when {{ add_minutes("scheduled_arrival_at", 720) }} <= {{ known_until() }}
            then {{ add_minutes("scheduled_arrival_at", 720) }}
    end as label_known_at
from {{ ref("int_flights") }}
where {{ since_held("known_at") }} or {{ since_held(add_minutes("scheduled_arrival_at", 720)) }}
"""


def add_tides(root: Path) -> None:
    """The domain `tides` with the problem `high_tide`: every 12 hours a reading per harbour, and its next one asked."""
    (root / "problems" / "sources" / "tides.yaml").write_text(SOURCES)
    problem = _flights_problem(root)
    problem |= {
        "name": "high_tide",
        "question": "Will the next reading be a flood?",
        "domain": "tides",
        "labeled_table": "labeled.harbour_floods",
        "split_table": "split.harbour_splits",
        "feature_service": "high_tide",
        "entity": {"name": "reading", "key": "reading"},
        "slices": {"columns": ["harbour"], "min_rows": 10},
        "baseline": {"columns": ["harbour"], "min_gain": -0.5},
        "splits": {
            "train": {"start": "-15 weeks", "end": "-6 weeks"},
            "validation": {"start": "-6 weeks", "end": "-3 weeks"},
            "test": {"start": "-3 weeks", "end": "0 weeks"},
        },
        "metrics": {"primary": "log_loss", "bars": {"log_loss": {"max": 5}}},
        "leakage": problem["leakage"] | {"max_roc_auc": 1.0, "max_feature_roc_auc": 1.0},
        "prediction_time": {"column": "asked_at", "description": "Six hours before the reading."},
        "label": {
            "column": "flooded",
            "known_at": "flooded_known_at",
            "description": "The level is above 2.",
            "matures_within": "6 hours",
        },
    }
    (root / "problems" / "high_tide.yaml").write_text(yaml.safe_dump(problem))
    for name, text in MODELS.items():
        file = root / "dbt_project" / "models" / "tides" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip())
    project = root / "dbt_project" / "dbt_project.yml"
    stages = "        +contract: {enforced: true}\n"
    assert project.read_text().count(stages) == 1
    project.write_text(project.read_text().replace(stages, stages + "    tides: *stages\n"))
    (root / "feature_repo" / "tides.py").write_text(VIEWS)
    folder = root / "tides"
    folder.mkdir(exist_ok=True)
    lines = ["reading,harbour,read_at,level"]
    for number in range(2 * DAYS):
        for at, harbour in enumerate(HARBOURS):
            level = 1.5 + math.sin(number / 3 + at) + 0.4 * math.sin(number * (at + 1.7))
            day = f"2024-01-01T{12 * (number % 2):02}:00:00"
            lines.append(f"{harbour}{number},{harbour},{_days_later(day, number // 2)},{level:.3f}")
    (folder / "readings.csv").write_text("\n".join(lines) + "\n")


def remove_tides(root: Path) -> None:
    """Takes the domain's files out. The line of it in dbt_project.yml does nothing then."""
    for file in ("problems/sources/tides.yaml", "problems/high_tide.yaml", "feature_repo/tides.py"):
        (root / file).unlink()
    for file in sorted((root / "dbt_project" / "models" / "tides").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (root / "dbt_project" / "models" / "tides").rmdir()


def add_cancelled(root: Path) -> None:
    """The problem `flight_cancelled` of the flights' domain: will the flight be cancelled or diverted?"""
    problem = _flights_problem(root)
    problem |= {
        "name": "flight_cancelled",
        "question": "Two hours before departure: will the flight be cancelled or diverted?",
        "labeled_table": "labeled.flight_cancellations",
        "split_table": "split.flight_cancellation_splits",
        "leakage": problem["leakage"] | {"max_roc_auc": 1.0, "max_feature_roc_auc": 1.0, "max_null_pattern_rate": 1.0},
        "metrics": {"primary": "log_loss", "bars": {"log_loss": {"max": 5}}},
    }
    problem["label"] |= {
        "column": "is_cancelled",
        "description": "Never arrived where it was to.",
        "known_at": "label_known_at",
    }
    (root / "problems" / "flight_cancelled.yaml").write_text(yaml.safe_dump(problem))
    models = root / "dbt_project" / "models" / "flights"
    (models / "labeled" / "flight_cancellations.sql").write_text(CANCELLED)
    split = (models / "split" / "flight_splits.sql").read_text()
    split = split.replace("flight_outcomes", "flight_cancellations").replace("is_late", "is_cancelled")
    (models / "split" / "flight_cancellation_splits.sql").write_text(split.replace("flight_delay", "flight_cancelled"))
    for folder, table, copy in (
        ("labeled", "flight_outcomes", "flight_cancellations"),
        ("split", "flight_splits", "flight_cancellation_splits"),
    ):
        described = yaml.safe_load((models / folder / f"_{folder}.yml").read_text())
        (model,) = [each for each in described["models"] if each["name"] == table]
        columns = [{"name": each["name"], "data_type": each["data_type"]} for each in model["columns"]]
        text = yaml.safe_dump(
            {"version": 2, "models": [{"name": copy, "description": "One row per flight.", "columns": columns}]},
            sort_keys=False,
        )
        (models / folder / f"_{copy}.yml").write_text(re.sub(r"\bis_late\b", "is_cancelled", text))


def _flights_problem(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((root / "problems" / "flight_delay.yaml").read_text())
    return content


def _days_later(instant: str, days: int) -> str:
    from datetime import datetime, timedelta

    return (datetime.fromisoformat(instant) + timedelta(days=days)).isoformat(sep=" ")
