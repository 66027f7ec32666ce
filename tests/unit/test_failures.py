"""What a failed test of the SQL says: the rule, how many rows break it, one of them, and which file declares it."""

import shutil
from datetime import UTC, datetime

import pytest

from hindcast.home import prepare
from hindcast.lake import Lake
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.transform import NodeResult, build
from tests.conftest import ROOT
from tests.control import write_control

NOVEMBER = datetime(2013, 11, 1, tzinfo=UTC)
ORDERS = """
select * from (values
    (1, 'A', 2.0, timestamp '2013-10-01 00:00:00'),
    (2, 'A', -1.0, timestamp '2013-10-01 00:00:00'),
    (3, 'B', -2.0, timestamp '2013-10-01 00:00:00'),
    (3, 'C', 1.0, timestamp '2013-12-01 00:00:00'),
    (cast(null as integer), 'A', 1.0, timestamp '2013-10-01 00:00:00')
) as orders (order_id, shop, weight, known_at)
"""
TESTS = """
version: 2
sources:
  - {name: control, database: lake, schema: control, tables: [{name: instants}]}
models:
  - name: shops
    columns:
      - name: shop
        data_tests: [{not_null: {name: shops_not_null}}]
  - name: districts
  - name: mistakes
    data_tests:
      - rows_hold: {name: mistakes_rows_hold, arguments: {key: [rule, broken_by, example], conditions: [example > 0]}}
  - name: orders
    columns:
      - name: shop
        data_tests:
          - relationships: {name: orders_of_shops, arguments: {to: ref('shops'), field: shop}}
    data_tests:
      - rows_hold:
          name: orders_rows_hold
          arguments: {key: [order_id, shop], known_at: [known_at], conditions: [weight > 0, "shop <> 'Z'"]}
      - rows_hold: {name: orders_have_one_key, arguments: {key: [order_id], conditions: [true]}}
unit_tests:
  - name: districts_are_two
    model: districts
    given: []
    expect: {rows: [{district: 2}]}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NodeResult]:
    """What dbt finds in a project of two small models, by name."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("problems", "requirements.lock"):
        (root / name).symlink_to(ROOT / name)
    project = root / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("models", "seeds"))
    models = project / "models" / "flights" / "staging"
    models.mkdir(parents=True)
    (project / "seeds").mkdir()
    (models / "orders.sql").write_text(ORDERS)
    (models / "shops.sql").write_text("select * from (values ('A'), ('C')) as shops (shop)")
    # A table's columns may be named as what the test finds.
    (models / "mistakes.sql").write_text("select 'a' as rule, 1 as broken_by, 1 as example union all select 'b', 2, 0")
    (models / "districts.sql").write_text("select 1 as district")
    (models / "_staging.yml").write_text(TESTS)
    settings = Settings(root, root / "home")
    prepare(settings)
    write_control(Lake(settings), load_problem(settings.problem_file), NOVEMBER, NOVEMBER)
    names = ["orders", "shops", "shops_not_null", "orders_of_shops", "orders_rows_hold", "orders_have_one_key"]
    found = build(settings, [*names, "districts", "districts_are_two", "mistakes", "mistakes_rows_hold"])
    return {each.unique_id.split(".")[3 if each.kind == "unit_test" else 2]: each for each in found}


def message(results: dict[str, NodeResult], name: str) -> str:
    return results[name].message


def test_a_broken_rule_says_how_many_rows_break_it_and_which(results: dict[str, NodeResult]) -> None:
    found = results["orders_rows_hold"]
    assert (found.status, found.failures) == ("fail", 3)
    assert "1 row (limit 0) break the rule `order_id is not null`, e.g. order_id null, shop A" in found.message
    assert "2 rows (limit 0) break the rule `weight > 0`, e.g. order_id 2, shop A" in found.message
    assert "1 row (limit 0) break the rule `known_at is known`, e.g. order_id 3, shop C" in found.message
    assert found.message.endswith("Look at dbt_project/models/flights/staging/_staging.yml: orders_rows_hold.")


def test_a_key_that_comes_twice_is_named(results: dict[str, NodeResult]) -> None:
    told = results["orders_have_one_key"].message
    assert "1 row (limit 0) break the rule `order_id is the key`, e.g. order_id 3" in told


def test_the_names_of_a_tables_columns_do_not_matter(results: dict[str, NodeResult]) -> None:
    told = results["mistakes_rows_hold"].message
    assert told.startswith("1 row (limit 0) break the rule `example > 0`, e.g. rule b, broken_by 2, example 0. Look at")


def test_another_test_of_dbts_shows_a_row(results: dict[str, NodeResult]) -> None:
    found = results["orders_of_shops"]
    assert found.failures == 1
    assert found.message == (
        "1 row (limit 0) fail orders_of_shops, e.g. from_field B. "
        "Look at dbt_project/models/flights/staging/_staging.yml: orders_of_shops."
    )


def test_a_unit_test_shows_what_differs_and_where_it_is_declared(results: dict[str, NodeResult]) -> None:
    found = results["districts_are_two"]
    assert found.failed
    assert "actual differs from expected" in found.message
    assert "\x1b" not in found.message
    assert "Look at dbt_project/models/flights/staging/_staging.yml: districts_are_two." in found.message


def test_what_passes_has_nothing_to_say(results: dict[str, NodeResult]) -> None:
    assert "Look at" not in results["shops_not_null"].message
