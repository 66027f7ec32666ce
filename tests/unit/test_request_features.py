"""Features that come with the request, and views that dbt's YAML describes."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from hindcast.errors import HindcastError
from hindcast.features.described import DescribedTables
from hindcast.features.feast_imports import Entity, ValueType, types
from hindcast.features.from_request import from_prediction_time, from_request
from hindcast.features.on_demand import compute, request_fields

YAML = """
version: 2
models:
  - name: gauges
    description: >-
      One row per gauge
      and hour.
    columns:
      - {name: gauge, data_type: varchar}
      - {name: event_timestamp, data_type: timestamp}
      - {name: level, data_type: double, description: Metres.}
      - {name: alarms, data_type: bigint}
  - name: odd
    columns: [{name: gauge, data_type: varchar}, {name: shape, data_type: geometry}]
"""


def test_the_requests_own_fields_are_features() -> None:
    fields = {"colour": types.String, "size": types.Float64, "count": types.Int64, "new": types.Bool}
    view = from_request("shop", fields)
    given = {"colour": ["red", None], "size": [1.5, None], "count": [2, 3], "new": [True, False]}
    assert request_fields(view) == list(fields)
    assert compute(view, {}, given, [datetime(2024, 1, 1)] * 2) == {f"asked_{k}": v for k, v in given.items()}
    assert {field.name: field.dtype for field in view.features} == {f"asked_{k}": v for k, v in fields.items()}


def test_the_prediction_time_is_read_in_utc_and_isnt_asked_for() -> None:
    view = from_prediction_time("when")
    instants = [
        datetime(2024, 3, 4, 6, 30),
        datetime(2024, 3, 4, 6, 30, tzinfo=UTC),
        datetime(2024, 3, 4, 7, 30, tzinfo=timezone(timedelta(hours=1))),
    ]
    assert request_fields(view) == []
    said = compute(view, {}, {}, instants)
    assert said == {"when_hour": [6.5] * 3, "when_weekday": [1.0] * 3, "when_day_of_year": [64.0] * 3}


@pytest.fixture
def tables(tmp_path: Path) -> DescribedTables:
    folder = tmp_path / "dbt_project" / "models" / "rivers" / "features"
    folder.mkdir(parents=True)
    (folder / "_features.yml").write_text(YAML)
    return DescribedTables(str(tmp_path / "feature_repo" / "rivers.py"), owner="us")


def test_a_view_is_what_the_yaml_describes(tables: DescribedTables) -> None:
    gauge = Entity(name="gauge", value_type=ValueType.STRING)
    view = tables.view("gauges", [gauge], timedelta(hours=1), {"topic": "water"})
    assert [(field.name, field.dtype, field.description) for field in view.features] == [
        ("level", types.Float64, "Metres."),
        ("alarms", types.Int64, ""),
    ]
    assert [field.name for field in view.entity_columns] == ["gauge"]
    assert (view.description, view.owner, view.tags) == ("One row per gauge and hour.", "us", {"topic": "water"})
    assert (view.ttl, view.batch_source.table) == (timedelta(hours=1), "features.gauges")


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        ("gouges", "gauge", r"no YAML file describes a table gouges; there are gauges, odd\."),
        ("gauges", "river", r"_features\.yml: gauges has no column river, the join key"),
        ("odd", "gauge", r"_features\.yml: odd\.shape: data_type geometry; write one of varchar"),
    ],
)
def test_what_cant_be_a_view_is_said(tables: DescribedTables, table: str, key: str, said: str) -> None:
    with pytest.raises(HindcastError, match=said):
        tables.view(table, [Entity(name=key, value_type=ValueType.STRING)], timedelta(0))
