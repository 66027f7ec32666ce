"""The request log: what is acknowledged is on file, and each record becomes one row, whatever breaks when."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake, columns_of
from hindcast.serving import log_record, request_log
from hindcast.serving.log_record import rows_of
from hindcast.serving.request_log import Compaction, RequestLog, compact, logged_ids, prediction_columns
from hindcast.settings import Settings

KEEP = timedelta(days=30)
AT_ONCE = timedelta(0)


def record(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "record": 2,
        "id": f"id-{number}",
        "received_at": "2024-05-01T12:00:00.250000+00:00",
        "prediction_time": "2024-05-01T14:00:00+02:00",
        "entity": {"parcel": f"P{number}", "depot": None},
        "model_version": "v1",
        "snapshot": 7,
        "features": {"weight": 1.5, "kind": "box", "age": None},
        "features_as_of": "2024-05-01T13:30:00+02:00",
        "features_snapshot": 12,
        "feature_times": {"depots": "2024-05-01T11:00:00+00:00", "parcels": None},
        "missing_or_stale": ["parcels"],
        "unknown_categories": [],
        "prediction": [0.25],
        "decision": "0",
        "latency_ms": 0.5,
    } | changes


def record_of_before(number: int, **changes: Any) -> dict[str, Any]:
    """As records were when all problems were binary."""
    kept = {name: value for name, value in record(number).items() if name not in ("record", "prediction")}
    return kept | {"probability": 0.75, "decision": 1} | changes


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(Settings(tmp_path, tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def rows(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with lake.reading() as connection:
        return connection.execute(sql).fetchall()


def test_a_record_is_a_whole_line_when_append_returns(folder: Path) -> None:
    RequestLog(folder).append([record(1), record(2)])
    (file,) = folder.iterdir()
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == ["id-1", "id-2"]
    assert file.read_text().endswith("\n")


def test_processes_never_share_a_file(folder: Path) -> None:
    RequestLog(folder).append([record(1)])
    RequestLog(folder).append([record(2)])
    assert len(list(folder.iterdir())) == 2


def test_a_full_file_is_followed_by_a_new_one(folder: Path) -> None:
    log = RequestLog(folder, file_bytes=1)
    for number in range(3):
        log.append([record(number)])
    assert len(list(folder.iterdir())) == 3


def test_records_become_typed_rows(folder: Path, lake: Lake) -> None:
    RequestLog(folder).append([record(1)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=0, rows=1)
    (row,) = rows(
        lake,
        "SELECT parcel, received_at::VARCHAR, prediction_time::VARCHAR, snapshot, prediction, decision, latency_ms, "
        "(features->>'weight')::DOUBLE, features->>'kind', features->>'age', entity->>'parcel', "
        "feature_times->>'depots', missing_or_stale, unknown_categories, features_as_of::VARCHAR, features_snapshot "
        "FROM log.requests",
    )
    times = ("2024-05-01 12:00:00.25", "2024-05-01 12:00:00")
    depots = "2024-05-01T11:00:00+00:00"
    as_of = "2024-05-01 11:30:00"
    assert row == ("P1", *times, 7, [0.25], "0", 0.5, 1.5, "box", None, "P1", depots, ["parcels"], [], as_of, 12)


def test_records_of_a_store_that_does_not_say_its_state_become_rows(folder: Path, lake: Lake) -> None:
    log, asked = (
        RequestLog(folder),
        "SELECT id, features_as_of IS NULL, features_snapshot FROM log.requests ORDER BY id",
    )
    log.append([record(1)])
    compact(folder, lake, "log.requests", "parcel")
    earlier = record(2)
    del earlier["features_as_of"], earlier["features_snapshot"]
    log.append([earlier, record(3), record(4, features_as_of=None, features_snapshot=None)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=3, duplicates=0, torn=0, rows=4)
    assert rows(lake, asked) == [("id-1", False, 12), ("id-2", True, None), ("id-3", False, 12), ("id-4", True, None)]


def test_compacting_again_adds_only_what_is_new(folder: Path, lake: Lake) -> None:
    log = RequestLog(folder)
    log.append([record(1), record(2)])
    compact(folder, lake, "log.requests", "parcel")
    snapshot = lake.snapshot()
    assert compact(folder, lake, "log.requests", "parcel").added == 0
    assert lake.snapshot() == snapshot
    log.append([record(3)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=0, rows=3)


def test_an_id_becomes_one_row_and_the_first_one_stays(folder: Path, lake: Lake) -> None:
    log = RequestLog(folder)
    log.append([record(1), record(1, prediction=[0.5])])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=1, torn=0, rows=1)
    log.append([record(1, prediction=[0.75])])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=0, duplicates=1, torn=0, rows=1)
    assert rows(lake, "SELECT prediction FROM log.requests") == [([0.25],)]


def test_an_unfinished_last_line_waits_until_it_is_whole(folder: Path, lake: Lake) -> None:
    folder.mkdir()
    line = json.dumps(record(2)) + "\n"
    file = folder / "1-x.jsonl"
    file.write_text(json.dumps(record(1)) + "\n" + line[:40])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=1, rows=1)
    with file.open("a") as handle:
        handle.write(line[40:])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=0, rows=2)


def test_a_full_disk_is_an_error_and_leaves_the_next_record_whole(folder: Path, lake: Lake) -> None:
    log = RequestLog(folder)
    log.append([record(1)])
    (file,) = folder.iterdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 40, hard))
        with pytest.raises(OSError, match="too large"):
            log.append([record(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=1, rows=1)
    log.append([record(3)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=1, rows=2)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file, where the folder should be")
    with pytest.raises(OSError):
        RequestLog(tmp_path / "log").append([record(1)])


def test_breaking_off_before_the_commit_neither_loses_nor_doubles(
    folder: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    RequestLog(folder).append([record(1), record(2)])
    insert = request_log._insert

    def insert_and_die(*arguments: Any) -> int:
        insert(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(request_log, "_insert", insert_and_die)
        compact(folder, lake, "log.requests", "parcel")
    assert not lake.exists("log.requests")
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=2, duplicates=0, torn=0, rows=2)


def test_a_log_larger_than_one_transaction_is_taken_in_parts(
    folder: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "_BATCH_BYTES", 1000)
    log = RequestLog(folder, file_bytes=1200)
    for number in range(8):
        log.append([record(number)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=8, duplicates=0, torn=0, rows=8)


def test_logged_ids_are_those_of_the_lake_and_of_the_files(folder: Path, lake: Lake) -> None:
    log = RequestLog(folder)
    assert logged_ids(folder, lake, "log.requests") == set()
    log.append([record(1)])
    assert logged_ids(folder, lake, "log.requests") == {"id-1"}
    compact(folder, lake, "log.requests", "parcel")
    log.append([record(2)])
    assert logged_ids(folder, lake, "log.requests") == {"id-1", "id-2"}


def closed(folder: Path, number: int, days: float = 31) -> Path:
    """A file of one record that nobody writes to any more, last written so many days ago."""
    before = set(folder.glob("*.jsonl"))
    log = RequestLog(folder)
    log.append([record(number)])
    log.close()
    (file,) = set(folder.glob("*.jsonl")) - before
    written = time.time() - days * 86400
    os.utime(file, (written, written))
    return file


def test_a_file_goes_when_it_is_over_old_and_in_the_lake(folder: Path, lake: Lake) -> None:
    old, young = closed(folder, 1), closed(folder, 2, days=29)
    assert compact(folder, lake, "log.requests", "parcel", None).deleted == 0
    assert compact(folder, lake, "log.requests", "parcel", KEEP) == Compaction(
        added=0, duplicates=0, torn=0, rows=2, deleted=1
    )
    assert (old.exists(), young.exists()) == (False, True)
    assert compact(folder, lake, "log.requests", "parcel", KEEP) == Compaction(
        added=0, duplicates=0, torn=0, rows=2, deleted=0
    )
    assert logged_ids(folder, lake, "log.requests") == {"id-1", "id-2"}


def test_a_file_that_is_written_to_stays_however_long_nothing_came(folder: Path, lake: Lake) -> None:
    log = RequestLog(folder)
    log.append([record(1)])
    (file,) = folder.iterdir()
    os.utime(file, (0, 0))
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE).deleted == 0
    log.append([record(2)])
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE) == Compaction(
        added=1, duplicates=0, torn=0, rows=2, deleted=0
    )
    log.close()
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE).deleted == 1


def test_a_line_that_isnt_whole_keeps_its_file(folder: Path, lake: Lake) -> None:
    file = closed(folder, 1)
    with file.open("a") as handle:
        handle.write('{"id": "id-2"')
    os.utime(file, (0, 0))
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE) == Compaction(
        added=1, duplicates=0, torn=1, rows=1, deleted=0
    )
    assert file.exists()


def test_what_came_after_the_commit_keeps_its_file(folder: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    file, unfinished = closed(folder, 1), request_log._unfinished

    def append_more(*arguments: Any) -> int:
        with file.open("a") as handle:
            handle.write(json.dumps(record(2)) + "\n")
        return unfinished(*arguments)

    with monkeypatch.context() as late:
        late.setattr(request_log, "_unfinished", append_more)
        assert compact(folder, lake, "log.requests", "parcel", AT_ONCE) == Compaction(
            added=1, duplicates=0, torn=0, rows=1, deleted=0
        )
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE) == Compaction(
        added=1, duplicates=0, torn=0, rows=2, deleted=1
    )


def test_a_file_deleted_before_it_was_locked_is_not_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, gone = request_log.fcntl.flock, []

    def delete_first(descriptor: int, operation: int) -> None:
        if not gone:
            (file,) = folder.iterdir()
            file.unlink()
            gone.append(file)
        lock(descriptor, operation)

    monkeypatch.setattr(request_log.fcntl, "flock", delete_first)
    RequestLog(folder).append([record(1)])
    (file,) = folder.iterdir()
    assert gone and file not in gone
    assert json.loads(file.read_text())["id"] == "id-1"


def test_while_records_come_and_files_go_none_is_lost(folder: Path, lake: Lake) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(first: int) -> None:
        log = RequestLog(folder, file_bytes=20_000)
        for number in range(first, first + 100_000):
            if stop.is_set():
                return
            log.append([record(number)])
            acknowledged.append(f"id-{number}")
            time.sleep(0.005)

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 1_000_000)]
    for writer in writers:
        writer.start()
    deleted = sum(compact(folder, lake, "log.requests", "parcel", AT_ONCE).deleted for _ in range(3))
    stop.set()
    for writer in writers:
        writer.join()
    done = compact(folder, lake, "log.requests", "parcel", AT_ONCE)
    assert deleted > 0
    assert done.rows == len(acknowledged)
    assert {row[0] for row in rows(lake, "SELECT id FROM log.requests")} == set(acknowledged)


DIE = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from hindcast.lake import Lake
from hindcast.serving import request_log
from hindcast.settings import Settings

moment, folder, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def unlink_first(path, **more):
    Path.unlink = kill
    os.unlink(path)

if moment == "writing":
    log = request_log.RequestLog(folder)
    log.append([eval(sys.stdin.read())])
    kill()
elif moment == "before the commit":
    insert = request_log._insert
    request_log._insert = lambda *arguments: kill(insert(*arguments))
elif moment == "after the commit":
    request_log._delete_old = kill
else:
    Path.unlink = unlink_first
request_log.compact(folder, Lake(Settings(root, root / "home")), "log.requests", "parcel", timedelta(0))
"""


def died(moment: str, folder: Path, root: Path, said: str = "") -> None:
    process = subprocess.run([sys.executable, "-c", DIE, moment, str(folder), str(root)], input=said, text=True)
    assert process.returncode == -signal.SIGKILL


def test_kill_9_of_a_compaction_at_any_moment_loses_nothing(folder: Path, lake: Lake, tmp_path: Path) -> None:
    for number in range(3):
        closed(folder, number)
    died("before the commit", folder, tmp_path)
    assert len(list(folder.iterdir())) == 3
    died("after the commit", folder, tmp_path)
    assert len(list(folder.iterdir())) == 3
    assert rows(lake, "SELECT count(DISTINCT id), count(*) FROM log.requests") == [(3, 3)]
    closed(folder, 3)
    died("between two deletions", folder, tmp_path)
    assert len(list(folder.iterdir())) == 3
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE) == Compaction(
        added=0, duplicates=0, torn=0, rows=4, deleted=3
    )
    assert rows(lake, "SELECT count(DISTINCT id), count(*) FROM log.requests") == [(4, 4)]


def test_a_writer_killed_with_9_holds_its_file_no_longer(folder: Path, lake: Lake, tmp_path: Path) -> None:
    died("writing", folder, tmp_path, repr(record(1)))
    assert compact(folder, lake, "log.requests", "parcel", AT_ONCE) == Compaction(
        added=1, duplicates=0, torn=0, rows=1, deleted=1
    )


def test_the_log_of_a_challenger_fills_a_table_of_its_own(folder: Path, lake: Lake, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    RequestLog(folder).append([record(1), record(2)])
    RequestLog(beside).append([record(1, prediction=[0.75])])
    with next(beside.iterdir()).open("a") as file:
        file.write("torn\n")
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=2, duplicates=0, torn=0, rows=2)
    assert compact(beside, lake, "log.shadow", "parcel") == Compaction(added=1, duplicates=0, torn=1, rows=1)
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=0, duplicates=0, torn=0, rows=2)
    assert rows(lake, "SELECT id, prediction FROM log.requests ORDER BY id") == [("id-1", [0.25]), ("id-2", [0.25])]
    assert rows(lake, "SELECT id, prediction FROM log.shadow") == [("id-1", [0.75])]


def test_any_text_that_a_request_may_hold_becomes_a_row(folder: Path, lake: Lake) -> None:
    odd = ["\0", "a\0b", "\u2028", "\N{GRINNING FACE}", "\r", '"', "x" * 1000, ""]
    RequestLog(folder).append(
        [record(number, id=text or "-", entity={"parcel": text, "depot": None}) for number, text in enumerate(odd)]
    )
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=8, duplicates=0, torn=0, rows=8)
    assert rows(lake, "SELECT parcel, entity->>'parcel' FROM log.requests") == [(text, text) for text in odd]


@pytest.mark.parametrize(
    "changes",
    [
        {"record": "2"},
        {"record": True},
        {"prediction": "high"},
        {"prediction": None},
        {"prediction": 0.5},
        {"prediction": [None]},
        {"prediction": [0.5, "high"]},
        {"prediction": [10**400]},
        {"record": 1, "probability": "high", "decision": 0},
        {"record": 1, "probability": None, "decision": 0},
        {"record": 1, "probability": 0.5},
        {"snapshot": 2**63},
        {"snapshot": "seven"},
        {"decision": 1.5},
        {"decision": 1},
        {"missing_or_stale": "parcels"},
        {"missing_or_stale": [1]},
        {"id": None},
        {"id": "\ud800"},
        {"entity": {"parcel": "\ud800"}},
        {"entity": "P1"},
        {"features": {"kind": "\udfff"}},
        {"model_version": 1},
        {"prediction_time": "0001-01-01T00:00:00+14:00"},
        {"prediction_time": 5},
        {"features_snapshot": []},
    ],
)
def test_a_line_with_a_value_of_another_type_is_counted_and_stops_nothing(
    folder: Path, lake: Lake, changes: dict[str, Any]
) -> None:
    RequestLog(folder).append([record(1), record(2, **changes), record(3)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=2, duplicates=0, torn=1, rows=2)
    assert rows(lake, "SELECT id FROM log.requests ORDER BY id") == [("id-1",), ("id-3",)]


def test_numbers_that_json_does_not_know_become_a_row_that_says_so(folder: Path, lake: Lake) -> None:
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        json.dumps(record(1, features={"weight": float("nan")}, prediction=[float("nan")])) + "\n"
    )
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=0, torn=0, rows=1)
    assert rows(lake, "SELECT isnan(prediction[1]) FROM log.requests") == [(True,)]


def test_a_prediction_of_several_numbers_becomes_one_column_for_each(folder: Path, lake: Lake) -> None:
    RequestLog(folder).append(
        [
            record(1, prediction=[0.25, 0.5, 0.25], decision='an odd "name'),
            record(2, prediction=[3, 1, 7.5], decision=None),
        ]
    )
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=2, duplicates=0, torn=0, rows=2)
    names = ("value", "lower", 'an "upper"')
    with lake.reading() as connection:
        found = connection.execute(f"SELECT decision, {prediction_columns(names)} FROM log.requests ORDER BY id")
        assert [name for name, *_ in found.description] == ["decision", *names]
        assert found.fetchall() == [('an odd "name', 0.25, 0.5, 0.25), (None, 3.0, 1.0, 7.5)]


# Of before, and of later

TABLE_OF_BEFORE = """
CREATE SCHEMA IF NOT EXISTS log;
CREATE TABLE log.requests (
    parcel VARCHAR, id VARCHAR, received_at TIMESTAMP, prediction_time TIMESTAMP, entity JSON, model_version VARCHAR,
    snapshot BIGINT, features JSON, feature_times JSON, missing_or_stale VARCHAR[], unknown_categories VARCHAR[],
    probability DOUBLE, decision INTEGER, latency_ms DOUBLE, features_as_of TIMESTAMP, features_snapshot BIGINT
);
INSERT INTO log.requests (parcel, id, model_version, missing_or_stale, probability, decision)
VALUES ('P8', 'id-8', 'v0', ['depots'], 0.125, 0), ('P9', 'id-9', 'v0', [], 'NaN', 1)
"""


@pytest.fixture
def lake_of_before(lake: Lake) -> Lake:
    """One whose table is as tables were when all problems were binary, with two rows."""
    with lake.writing() as connection:
        connection.execute(TABLE_OF_BEFORE)
    return lake


def said(lake: Lake) -> list[tuple[Any, ...]]:
    """What any reader reads, whatever the table's form."""
    with lake.reading() as connection:
        columns = f"id, parcel, {prediction_columns(['probability'])}, decision, missing_or_stale"
        return connection.execute(f"SELECT {columns} FROM {rows_of(connection, 'log.requests')} ORDER BY id").fetchall()


def test_lines_of_before_become_rows_like_the_others(folder: Path, lake: Lake) -> None:
    RequestLog(folder).append([record_of_before(1), record(2), record_of_before(2), record_of_before(3, decision=0)])
    assert logged_ids(folder, lake, "log.requests") == {"id-1", "id-2", "id-3"}
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=3, duplicates=1, torn=0, rows=3)
    found = rows(lake, "SELECT id, prediction, decision, latency_ms FROM log.requests ORDER BY id")
    assert found == [("id-1", [0.75], "1", 0.5), ("id-2", [0.25], "0", 0.5), ("id-3", [0.75], "0", 0.5)]


def test_a_table_of_before_is_read_as_it_is_and_brought_into_todays_form_once(
    folder: Path, lake_of_before: Lake
) -> None:
    lake, before = lake_of_before, said(lake_of_before)
    assert [row[:4] for row in before[:1]] == [("id-8", "P8", 0.125, "0")]
    assert math.isnan(before[1][2])
    RequestLog(folder).append([record(1), record_of_before(8)])
    assert compact(folder, lake, "log.requests", "parcel") == Compaction(added=1, duplicates=1, torn=0, rows=3)
    with lake.reading() as connection:
        kinds = columns_of(connection, "log.requests")
    assert (kinds["prediction"], kinds["decision"], "probability" in kinds) == ("DOUBLE[]", "VARCHAR", False)
    assert said(lake)[0] == ("id-1", "P1", 0.25, "0", ["parcels"])
    assert repr(said(lake)[1:]) == repr(before)  # NaN equals nothing
    snapshot = lake.snapshot()
    compact(folder, lake, "log.requests", "parcel")
    assert lake.snapshot() == snapshot


def test_a_table_of_before_changes_its_form_even_if_nothing_was_logged_since(
    folder: Path, lake_of_before: Lake
) -> None:
    folder.mkdir()
    assert compact(folder, lake_of_before, "log.requests", "parcel").rows == 2
    assert rows(lake_of_before, "SELECT prediction FROM log.requests WHERE id = 'id-8'") == [([0.125],)]


def test_kill_9_of_a_change_of_form_leaves_the_table_of_before(
    folder: Path, lake_of_before: Lake, tmp_path: Path
) -> None:
    before = said(lake_of_before)
    RequestLog(folder).append([record(1)])
    died("before the commit", folder, tmp_path)
    with lake_of_before.reading() as connection:
        assert "probability" in columns_of(connection, "log.requests")
    assert repr(said(lake_of_before)) == repr(before)
    assert compact(folder, lake_of_before, "log.requests", "parcel") == Compaction(1, 0, 0, 3)
    assert repr(said(lake_of_before)[1:]) == repr(before)


def test_records_of_a_later_version_wait_for_it(folder: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(folder)
    log.append([record(1, record=3), record(2, record=3)])
    log.close()
    (file,) = folder.iterdir()
    os.utime(file, (0, 0))
    told = rf"{file.name} holds records of form 3.*reads up to 2: work with the version that has served"
    with pytest.raises(HindcastError, match=told):
        compact(folder, lake, "log.requests", "parcel", AT_ONCE)
    with pytest.raises(HindcastError, match=told):
        logged_ids(folder, lake, "log.requests")
    assert file.exists()
    assert not lake.exists("log.requests")
    monkeypatch.setattr(log_record, "RECORD", 3)  # as the later version does, whose form happens to be the same
    done = compact(folder, lake, "log.requests", "parcel", AT_ONCE)
    assert (done.rows, done.torn, done.deleted) == (2, 0, 1)
