{# What engines write differently, of instants above all. Instants are timestamps without a zone, in UTC. #}

{# The wall clock of a time zone at an instant. #}
{% macro utc_to_local(instant, zone) %}{{ return(adapter.dispatch("utc_to_local")(instant, zone)) }}{% endmacro %}
{% macro default__utc_to_local(instant, zone) %}from_utc_timestamp({{ instant }}, {{ zone }}){% endmacro %}
{% macro duckdb__utc_to_local(instant, zone) %}timezone({{ zone }}, timezone('UTC', {{ instant }})){% endmacro %}

{# The instant at which a time zone's clock shows a time. #}
{% macro local_to_utc(clock, zone) %}{{ return(adapter.dispatch("local_to_utc")(clock, zone)) }}{% endmacro %}
{% macro default__local_to_utc(clock, zone) %}to_utc_timestamp({{ clock }}, {{ zone }}){% endmacro %}
{% macro duckdb__local_to_utc(clock, zone) %}timezone('UTC', timezone({{ zone }}, {{ clock }})){% endmacro %}

{# An instant moved by a whole number of minutes; NULL where either is. #}
{% macro add_minutes(instant, minutes) %}{{ return(adapter.dispatch("add_minutes")(instant, minutes)) }}{% endmacro %}
{% macro default__add_minutes(instant, minutes) %}timestampadd(minute, {{ minutes }}, {{ instant }}){% endmacro %}
{% macro duckdb__add_minutes(instant, minutes) %}{{ instant }} + to_minutes({{ minutes }}){% endmacro %}

{# Whole minutes since 1970. #}
{% macro epoch_minute(instant) %}{{ return(adapter.dispatch("epoch_minute")(instant)) }}{% endmacro %}
{% macro default__epoch_minute(instant) %}cast(unix_seconds({{ instant }}) div 60 as bigint){% endmacro %}
{% macro duckdb__epoch_minute(instant) %}cast(epoch({{ instant }}) // 60 as bigint){% endmacro %}

{# The first point of a grid of so many minutes (counted from midnight) that is not before the instant. #}
{% macro next_grid_point(instant, minutes) %}{{ return(adapter.dispatch("next_grid_point")(instant, minutes)) }}{% endmacro %}
{% macro default__next_grid_point(instant, minutes) %}
    timestamp_seconds(ceil(unix_micros({{ instant }}) / ({{ minutes }} * 60000000)) * ({{ minutes }} * 60))
{% endmacro %}
{% macro duckdb__next_grid_point(instant, minutes) -%}
    time_bucket(interval '{{ minutes }} minutes', {{ instant }} + interval '{{ minutes }} minutes' - interval '1 microsecond')
{%- endmacro %}

{# One row per grid point from one instant to another, both included. #}
{% macro grid_points(first, last, minutes) %}{{ return(adapter.dispatch("grid_points")(first, last, minutes)) }}{% endmacro %}
{% macro default__grid_points(first, last, minutes) %}
    explode(sequence({{ first }}, {{ last }}, interval {{ minutes }} minutes))
{% endmacro %}
{% macro duckdb__grid_points(first, last, minutes) -%}
    unnest(generate_series({{ first }}, {{ last }}, interval '{{ minutes }} minutes'))
{%- endmacro %}

{# Minutes since midnight of a clock time written as an integer hour-minute; 2400 is midnight. #}
{% macro clock_minute(hhmm) -%}
    cast(floor({{ hhmm }} / 100) * 60 + {{ hhmm }} % 100 as integer) % 1440
{%- endmacro %}

{# Day of the week, Monday 1 to Sunday 7. #}
{% macro iso_weekday(day) %}{{ return(adapter.dispatch("iso_weekday")(day)) }}{% endmacro %}
{% macro default__iso_weekday(day) %}extract(dayofweek_iso from {{ day }}){% endmacro %}
{% macro duckdb__iso_weekday(day) %}extract(isodow from {{ day }}){% endmacro %}

{# The frame of a window function over instants: the last so many minutes, the first instant excluded; none for all. #}
{% macro preceding_minutes(minutes) %}{{ return(adapter.dispatch("preceding_minutes")(minutes)) }}{% endmacro %}
{% macro default__preceding_minutes(minutes) -%}
    {%- if minutes is none -%}rows between unbounded preceding and current row
    {%- else -%}range between interval {{ minutes * 60000000 - 1 }} microseconds preceding and current row
    {%- endif -%}
{%- endmacro %}
{% macro duckdb__preceding_minutes(minutes) -%}
    {%- if minutes is none -%}rows between unbounded preceding and current row
    {%- else -%}range between interval '{{ minutes * 60000000 - 1 }} microseconds' preceding and current row
    {%- endif -%}
{%- endmacro %}

{# An aggregate: of the values that there are, that of the latest instant; of several, the largest. #}
{% macro newest_value(value, instant) %}{{ return(adapter.dispatch("newest_value")(value, instant)) }}{% endmacro %}
{% macro default__newest_value(value, instant) -%}
    max_by({{ value }}, struct({{ instant }}, {{ value }})) filter (where {{ value }} is not null)
{%- endmacro %}
{% macro duckdb__newest_value(value, instant) -%}
    max_by({{ value }}, ({{ instant }}, {{ value }})) filter (where {{ value }} is not null)
{%- endmacro %}

{# Hours from one instant to another, with fractions. #}
{% macro hours_between(first, last) %}{{ return(adapter.dispatch("hours_between")(first, last)) }}{% endmacro %}
{% macro default__hours_between(first, last) %}cast(unix_micros({{ last }}) - unix_micros({{ first }}) as double) / 3600000000{% endmacro %}
{% macro duckdb__hours_between(first, last) %}cast(date_diff('microsecond', {{ first }}, {{ last }}) as double) / 3600000000{% endmacro %}

{# A number as a decimal, whose sums don't depend on the order of the rows; NULL where no decimal can hold it (NaN). #}
{% macro exact_decimal(number) %}{{ return(adapter.dispatch("exact_decimal")(number)) }}{% endmacro %}
{% macro default__exact_decimal(number) %}try_cast({{ number }} as decimal(38, 9)){% endmacro %}
{% macro duckdb__exact_decimal(number) %}try_cast({{ number }} as decimal(38, 9)){% endmacro %}
