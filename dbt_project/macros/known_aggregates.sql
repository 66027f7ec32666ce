{#
  What was known of a key at every instant, summed up over the time before: one row per key and instant T, whose values
  are taken over the rows that became known in (T - window, T].

      {{ known_aggregates(
          rows=ref("int_orders"),
          keys=["customer"],
          values=[
              {"name": "spent", "aggregate": "sum", "of": "price", "windows": {"7d": 10080, "ever": none}},
              {"name": "returned", "aggregate": "smoothed", "of": "is_returned", "windows": {"28d": 40320},
               "towards": 0.1, "weight": 20},
          ],
          step=60,
      ) }}

  gives customer, event_timestamp, spent_7d, spent_ever, returned_28d.

  rows: a relation, or SQL of one in brackets: a row per thing that became known. Rows without a key or an instant
  don't count.
  keys: columns. known_at: the column (or SQL) of the instant at which the row became known.
  values: each with a name, an aggregate, `of` (a column or SQL; NULLs don't count) and windows: name -> minutes, or
  none for everything so far.
      count     rows, or those whose `of` is there; bigint
      sum       of nothing, 0
      mean      NULL of nothing, as are those below but smoothed
      rate      mean of what is 0 or 1, or a boolean
      smoothed  (sum + towards * weight) / (count + weight): a rate drawn towards another where rows are few
      min, max
      last      the `of` that became known last; of several at one instant, the largest
      since     hours since a row last became known; it grows by itself, so it needs a step
  All but counts are doubles; min, max and last are of another type where the value has a `type`.
  step: minutes of the grid that event_timestamp lies on, from a key's first row on; windows are multiples of it. Without
  one there is a row wherever a value may change: when something becomes known, and when it leaves a window.

  A table made in steps is the same to the last bit as one made at once, so a sum must not depend on the order of its
  rows: numbers are summed as decimals with nine digits after the point. What no such decimal can hold (NaN, infinity,
  29 digits before the point) counts as NULL.
#}
{% macro known_aggregates(rows, keys, values, step=none, known_at="known_at") %}
{%- set of_decimals = ["sum", "mean", "rate", "smoothed"] -%}
{%- set lengths, forever = [], [] -%}
{%- for value in values -%}
    {%- do check_known_aggregate(value, step) -%}
    {%- for minutes in value.windows.values() -%}
        {%- if minutes is none -%}{%- do forever.append(value.name) -%}{%- else -%}{%- do lengths.append(minutes) -%}{%- endif -%}
    {%- endfor -%}
{%- endfor -%}
{%- set lengths = lengths | unique | sort -%}
{%- set key_columns = keys | join(", ") -%}
with news as (
    select
        {{ key_columns }},
        {{ known_at }} as news_at
        {%- for value in values if value.of %},
        {% if value.aggregate in of_decimals %}{{ exact_decimal(value.of) }}{% else %}{{ value.of }}{% endif %} as of_{{ loop.index }}
        {%- do value.update({"column": "of_" ~ loop.index}) %}
        {%- endfor %}
    from {{ rows }} as rows_known
    where
        {{ known_at }} is not null
        {%- for key in keys %}
        and {{ key }} is not null
        {%- endfor %}
        {%- if not forever %}
        and {{ since_held("(" ~ known_at ~ ")", days_before=(lengths | last + 1439) // 1440 + 1) }}
        {%- endif %}
),

at_points as (
    select
        {{ key_columns }},
        {{ next_grid_point("news_at", step) if step else "news_at" }} as event_timestamp,
        max(news_at) as newest_at
        {%- for value in values %}
        {%- if value.aggregate == "count" or value.aggregate in of_decimals %},
        count({{ value.column or "*" }}) as count_{{ loop.index }}
        {%- endif %}
        {%- if value.aggregate in of_decimals %},
        sum({{ value.column }}) as sum_{{ loop.index }}
        {%- elif value.aggregate in ("min", "max") %},
        {{ value.aggregate }}({{ value.column }}) as value_{{ loop.index }}
        {%- elif value.aggregate == "last" %},
        {{ newest_value(value.column, "news_at") }} as value_{{ loop.index }}
        {%- endif %}
        {%- endfor %}
    from news
    group by {{ key_columns }}, event_timestamp
),

{% if step -%}
first_points as (
    select
        {{ key_columns }},
        min(event_timestamp) as first_known_at
    from {{ grid_starts("at_points", keys, step) }}
    group by {{ key_columns }}
),

points as (
    select
        {{ key_columns }},
        {{ grid_points("first_known_at", known_until(), step) }} as event_timestamp
    from first_points
),
{%- else -%}
changes as (
    select
        {{ key_columns }},
        event_timestamp
    from at_points
    {%- for minutes in lengths %}
    union
    select
        {{ key_columns }},
        {{ add_minutes("event_timestamp", minutes) }} as event_timestamp
    from at_points
    {%- endfor %}
),

points as (
    select * from changes
    where event_timestamp <= {{ known_until() }}
),
{%- endif %}

aggregates as (
    select
        {{ key_columns }},
        event_timestamp
        {%- for value in values %}
        {%- set of = loop.index -%}
        {%- for name, minutes in value.windows.items() %},
        {{ known_aggregate(value, of, "over " ~ ("so_far" if minutes is none else "last_" ~ minutes)) }} as {{ value.name }}_{{ name }}
        {%- endfor %}
        {%- endfor %}
    from points
    left join at_points using ({{ key_columns }}, event_timestamp)
    window
        so_far as (partition by {{ key_columns }} order by event_timestamp {{ preceding_minutes(none) }})
        {%- for minutes in lengths %},
        last_{{ minutes }} as (
            partition by {{ key_columns }} order by event_timestamp
            {{ preceding_minutes(minutes) }}
        )
        {%- endfor %}
)

select * from aggregates
where {{ since_held("event_timestamp") }}
{% endmacro %}

{# One value over a window of what came to the points; of: the number of its columns. #}
{% macro known_aggregate(value, of, window) -%}
    {%- set sum = "cast(coalesce(sum(sum_" ~ of ~ ") " ~ window ~ ", 0) as double)" -%}
    {%- set count = "coalesce(sum(count_" ~ of ~ ") " ~ window ~ ", 0)" -%}
    {%- set type = value.get("type", "double") -%}
    {%- if value.aggregate == "count" -%}
    cast({{ count }} as bigint)
    {%- elif value.aggregate == "sum" -%}
    {{ sum }}
    {%- elif value.aggregate in ("mean", "rate") -%}
    {{ sum }} / nullif(cast({{ count }} as double), 0)
    {%- elif value.aggregate == "smoothed" -%}
    cast(coalesce(sum(sum_{{ of }}) {{ window }}, 0) + {{ value.towards * value.weight }} as double)
        / cast({{ count }} + {{ value.weight }} as double)
    {%- elif value.aggregate == "last" -%}
    cast(last_value(value_{{ of }} ignore nulls) {{ window }} as {{ type }})
    {%- elif value.aggregate == "since" -%}
    {{ hours_between("max(newest_at) " ~ window, "event_timestamp") }}
    {%- else -%}
    cast({{ value.aggregate }}(value_{{ of }}) {{ window }} as {{ type }})
    {%- endif -%}
{%- endmacro %}

{# Ends the run where a value can't be computed, and says why. #}
{% macro check_known_aggregate(value, step) %}
    {%- set said = namespace(wrong=none) -%}
    {%- set without_of, others = ["count", "since"], ["sum", "mean", "rate", "smoothed", "min", "max", "last"] -%}
    {%- if value.aggregate not in without_of + others -%}
        {%- set said.wrong = "there is no aggregate " ~ value.aggregate ~ "; there are " ~ (without_of + others) | join(", ") -%}
    {%- elif value.aggregate in others and not value.of -%}
        {%- set said.wrong = "a " ~ value.aggregate ~ " needs `of`: a column or SQL" -%}
    {%- elif value.aggregate == "smoothed" and (value.get("towards") is none or not value.weight) -%}
        {%- set said.wrong = "a smoothed rate needs `towards` (a rate) and `weight` (of so many rows)" -%}
    {%- elif value.aggregate == "since" and not step -%}
        {%- set said.wrong = "hours since the last row grow by themselves, so they need a step" -%}
    {%- elif not value.windows -%}
        {%- set said.wrong = "it needs windows: name -> minutes, or none for everything so far" -%}
    {%- endif -%}
    {%- for name, minutes in (value.windows or {}).items() if step and minutes is not none and minutes % step -%}
        {%- set said.wrong = "the window " ~ name ~ " isn't a multiple of the step of " ~ step ~ " minutes" -%}
    {%- endfor -%}
    {%- if said.wrong -%}
        {{ exceptions.raise_compiler_error(model.name ~ ": the value " ~ value.name ~ " of known_aggregates: " ~ said.wrong ~ ".") }}
    {%- endif -%}
{% endmacro %}
