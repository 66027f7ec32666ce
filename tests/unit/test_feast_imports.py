"""Feast imported without typeguard's work: what is left of it afterwards, and that nothing else changes."""

import subprocess
import sys
from pathlib import Path

import pytest
import typeguard

from hindcast.features import feast_imports

COUNTING = """
import typeguard

decorated = []
original = typeguard.typechecked

def counting(target=None, **options):
    decorated.append(target)
    return original(target, **options)

typeguard.typechecked = counting
from hindcast.features import feast_imports
assert typeguard.typechecked is counting
print(len(decorated))

@typeguard.typechecked
def half(number: int) -> float:
    return number / 2

try:
    half("one")
except typeguard.TypeCheckError:
    print("checked")
"""


def test_typeguard_decorates_nothing_of_feast_and_works_afterwards(tmp_path: Path) -> None:
    script = tmp_path / "counting.py"  # typeguard needs a file to read
    script.write_text(COUNTING)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "checked"]


def test_the_decorator_is_put_back_where_the_import_fails() -> None:
    original = typeguard.typechecked
    with pytest.raises(ImportError), feast_imports._without_checks():
        assert typeguard.typechecked is not original
        raise ImportError("no Feast")
    assert typeguard.typechecked is original


def test_what_stands_in_for_the_decorator_takes_its_options() -> None:
    with feast_imports._without_checks():

        @typeguard.typechecked
        class Plain:
            pass

        @typeguard.typechecked(collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
        def twice(number: int) -> int:
            return number * 2

    assert (Plain.__name__, twice(2.5)) == ("Plain", 5.0)  # type: ignore[arg-type]


def test_the_classes_of_feast_work() -> None:
    entity = feast_imports.Entity(name="river", join_keys=["river_id"], value_type=feast_imports.ValueType.INT32)
    assert feast_imports.Entity.from_proto(entity.to_proto()) == entity
