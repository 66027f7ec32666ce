"""Artefacts are whole, damaged or absent, and say which; SQL's names and instants are written in one way."""

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from hindcast.artefacts import read_joblib, read_json, require_json, to_json, write_joblib, write_json
from hindcast.clock import SimulatedClock
from hindcast.errors import HindcastError
from hindcast.promotion.champion import current
from hindcast.settings import Settings
from hindcast.sql import identifier, identifiers, table_identifier, text_literal, without_zone
from hindcast.status import keep_failure

ROOT = Path(__file__).parents[2]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    assert read_json(path) is None
    text = write_json(path, {"b": 1, "a": [None, "ü"]})
    assert (read_json(path), require_json(path)) == ({"b": 1, "a": [None, "ü"]},) * 2
    assert text == path.read_text() and text.index('"b"') < text.index('"a"')
    assert to_json({"b": 1, "a": 2}, sort_keys=True) == '{\n  "a": 2,\n  "b": 1\n}\n'
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b'{"version": ', b"[1, 2]", b"\xff\xfe", b"null"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "champion.json"
    path.write_bytes(content)
    with pytest.raises(HindcastError, match=f"{re.escape(str(path))} is damaged .*: restore it from a copy"):
        read_json(path)


def test_a_file_that_must_be_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HindcastError, match=r"There is no .*evaluation\.json: `hindcast run` makes it"):
        require_json(tmp_path / "evaluation.json")


def test_a_number_that_is_not_finite_is_never_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"z": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"z": float("nan")})
    assert read_json(tmp_path / "a.json") == {"z": 1.5}


def test_objects_are_whole_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "candidates.joblib"
    assert read_joblib(path) is None
    write_joblib(path, {"day": datetime(2024, 1, 1)})
    assert read_joblib(path) == {"day": datetime(2024, 1, 1)}
    for damaged in (b"", path.read_bytes()[:-5], b"no pickle"):
        path.write_bytes(damaged)
        with pytest.raises(HindcastError, match=r"candidates\.joblib is damaged"):
            read_joblib(path)


def test_every_reader_of_a_home_names_its_damaged_file(tmp_path: Path) -> None:
    settings = Settings(ROOT, tmp_path)
    keep_failure(settings, "no disk")
    for path in (settings.champion_file, settings.clock_file("flights")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    with pytest.raises(HindcastError, match=r"champion\.json is damaged"):
        current(settings)
    with pytest.raises(HindcastError, match=r"flights\.json is damaged"):
        SimulatedClock(settings.clock_file("flights"), datetime(2024, 1, 1)).now()
    assert read_json(settings.failure_file) == {"message": "no disk"}


def test_only_one_module_reads_and_writes_artefacts() -> None:
    """A package that comes from elsewhere is none of this home's yet."""
    own = {"hindcast/artefacts.py", "hindcast/promotion/by_hand.py"}
    found = set()
    for path in [*(ROOT / "hindcast").rglob("*.py"), *(ROOT / "assets").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        if re.search(r"json\.loads\([^\n]*read_(text|bytes)|write_atomically\([^\n]*json\.dumps", path.read_text()):
            found.add(name)
    assert {name for name in found - own if not name.startswith("hindcast/serving/")} <= {
        "hindcast/tables/transform.py"
    }


def test_names_and_texts_mean_in_sql_what_they_say() -> None:
    odd = 'an "odd" name'
    found = duckdb.sql(f"SELECT 1 AS {identifier(odd)}, {text_literal(chr(39) + 'quoted' + chr(39))} AS said")
    assert (found.columns, found.fetchall()) == ([odd, "said"], [(1, "'quoted'")])
    assert identifiers(["a", odd]) == '"a", "an ""odd"" name"'
    assert table_identifier("raw.my table") == '"raw"."my table"'


def test_an_instant_is_written_in_utc_without_saying_so() -> None:
    noon = datetime(2024, 1, 1, 12)
    assert without_zone(noon) == noon
    assert without_zone(noon.replace(tzinfo=timezone(timedelta(hours=2)))) == datetime(2024, 1, 1, 10)
