"""Feature views made from the tables' YAML, and what is said where the YAML doesn't describe them."""

from datetime import timedelta
from pathlib import Path

import pytest
from feast import Entity, ValueType
from feast.types import Float32, Float64, Int64, String

from hindcast.errors import HindcastError
from hindcast.features.described import DescribedTables
from hindcast.fingerprint import fingerprint
from hindcast.settings import Settings

YAML = """
version: 2
models:
  - name: shop_orders
    description: >-
      One row per shop
      and hour.
    columns:
      - {name: shop, data_type: bigint, description: Key.}
      - {name: event_timestamp, data_type: timestamp}
      - {name: orders_7d, data_type: double, description: Orders of seven days.}
      - {name: kind, data_type: varchar}
      - {name: share, data_type: float}
  - name: untyped
    columns: [{name: shop, data_type: bigint}, {name: orders}]
  - name: odd
    columns: [{name: shop, data_type: bigint}, {name: orders, data_type: "integer[]"}]
"""
SHOP = Entity(name="shop", value_type=ValueType.INT64)
DAY = timedelta(days=1)


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """The domain's file of the feature repository; the YAML stands where it belongs."""
    folder = tmp_path / "dbt_project" / "models" / "shops" / "features"
    folder.mkdir(parents=True)
    (folder / "_features.yml").write_text(YAML)
    return tmp_path / "feature_repo" / "shops.py"


def test_a_view_is_what_the_yaml_says_of_its_table(shops: Path) -> None:
    view = DescribedTables(str(shops), owner="shop team").view("shop_orders", [SHOP], DAY, tags={"topic": "orders"})
    assert [(field.name, field.dtype, field.description) for field in view.features] == [
        ("orders_7d", Float64, "Orders of seven days."),
        ("kind", String, ""),
        ("share", Float32, ""),
    ]
    assert [(field.name, field.dtype) for field in view.entity_columns] == [("shop", Int64)]
    assert (view.description, view.owner, view.tags, view.ttl) == (
        "One row per shop and hour.",
        "shop team",
        {"topic": "orders"},
        DAY,
    )
    source = view.batch_source
    assert source is not None
    assert (source.get_table_query_string(), source.timestamp_field) == ('"features"."shop_orders"', "event_timestamp")


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ("shop_order", "shop", r"features/\*.yml: models: no table shop_order is described there; odd, shop_orders"),
        ("shop_orders", "town", r"_features.yml: models.shop_orders.columns: no column town, a key of the view"),
        ("untyped", "shop", r"_features.yml: models.untyped.columns.orders.data_type: missing"),
        ("odd", "shop", r"_features.yml: models.odd.columns.orders.data_type: Feast has no type INTEGER\[\]"),
    ],
)
def test_what_the_yaml_lacks_is_named_by_file_and_key(shops: Path, table: str, key: str, message: str) -> None:
    with pytest.raises(HindcastError, match=message):
        DescribedTables(str(shops)).view(table, [Entity(name=key, value_type=ValueType.INT64)], DAY)


@pytest.mark.parametrize(("text", "message"), [("models: [", "_features.yml: while parsing"), ("a: 1", "models: must")])
def test_yaml_that_cannot_be_read_is_named(shops: Path, text: str, message: str) -> None:
    (shops.parent.parent / "dbt_project" / "models" / "shops" / "features" / "_features.yml").write_text(text)
    with pytest.raises(HindcastError, match=message):
        DescribedTables(str(shops))


def test_another_description_makes_other_views(shops: Path) -> None:
    settings = Settings(shops.parent.parent, shops.parent.parent / "home")
    before = fingerprint(settings.feature_files("shops"))
    described = settings.dbt_project / "models" / "shops" / "features" / "_features.yml"
    described.write_text(YAML.replace("data_type: float}", "data_type: double}"))
    assert fingerprint(settings.feature_files("shops")) != before
