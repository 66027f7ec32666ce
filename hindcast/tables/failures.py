"""What a failed dbt test found, in words: the rule, how many rows break it, one of them, and which file declares it."""

import re
from typing import Any

import duckdb

from hindcast.checks import explain, rows
from hindcast.lake import Lake

_SHOWN = 5


def explain_failure(lake: Lake, node: Any, failures: int, message: str) -> str:
    """What is wrong, for people.

    dbt itself only says how many rows a test found. What they say is read by running the test's SQL once more.

    Args:
        lake: On which the test ran.
        node: dbt's, compiled.
        failures: Rows that the test found.
        message: dbt's word on it.
    """
    message = re.sub(r"\x1b\[[0-9;]*m", "", message).replace("\r\n", "\n")  # dbt colours it for a terminal
    declared = f"dbt_project/{node.original_file_path}: {node.name}"
    if not failures or not node.compiled_code or str(node.resource_type) != "test":
        return explain(message.strip(), look_at=declared)
    try:
        with lake.reading() as connection:
            cursor = connection.execute(f"SELECT * FROM ({node.compiled_code}) LIMIT {_SHOWN}")
            names = [column[0] for column in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except duckdb.Error as error:
        return explain(f"{message.strip()}; its rows can't be read ({str(error).splitlines()[0]})", look_at=declared)
    if not found:
        return explain(message.strip(), look_at=declared)
    if {"rule", "broken_by", "example"} <= set(names):
        lines = [
            f"{rows(each['broken_by'])} (limit 0) break the rule `{each['rule']}`, e.g. {each['example']}"
            for each in found
        ]
    else:
        shown = ", ".join(f"{name} {value}" for name, value in found[0].items())
        lines = [f"{rows(failures)} (limit 0) fail {node.name}, e.g. {shown}"]
    more = failures - len(found)
    if len(lines) > 1 or "rule" in names:
        lines += [f"{more} more rules are broken"] if more > 0 else []
    return explain("; ".join(lines), look_at=declared)
