{# A split table: which labeled rows a problem's windows admit. #}

{#
  The rows of a labeled table whose prediction time lies in one of the problem's windows, as they were known at the
  as-of instant, with the window's name as `split`. A row counts only if its label was known when its window ended: what
  a model made at that instant could have used. A row whose label never comes is in no window.

  problem: name; labeled: the relation; key, label, label_known_at, prediction_time: its columns.
#}
{% macro split_rows(problem, labeled, key, label, label_known_at="label_known_at", prediction_time="prediction_time") %}
with asked as (
    {{ as_known_then(
        labeled, key=key, labels=[label, label_known_at], prediction_time=prediction_time, as_of=as_of(problem)
    ) }}
),

windows as (
    select * from {{ source("control", "windows") }}
    where problem = '{{ problem }}'
)

select
    asked.*,
    windows.split
from asked
inner join windows
    on
        asked.{{ prediction_time }} >= windows.starts_at
        and asked.{{ prediction_time }} < windows.ends_at
        and asked.{{ label_known_at }} <= windows.ends_at
        and asked.{{ label_known_at }} <= windows.as_of
{% endmacro %}
