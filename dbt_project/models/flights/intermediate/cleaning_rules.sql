with reasons as (
    select * from {{ ref("cleaning_rule_reasons") }}
),

counted as (
    {% for model in ["stg_flights", "stg_weather", "stg_planes", "stg_airports", "int_flights", "int_weather"] -%}
    {{ rule_counts(ref(model)) }}
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select
    reasons.rule,
    reasons.table_name,
    reasons.why,
    coalesce(counted.rows_touched, 0) as rows_touched
from reasons
full outer join counted on reasons.rule = counted.rule
