with reasons as (
    select * from {{ ref("dengue_cleaning_rule_reasons") }}
),

counted as (
    {{ rule_counts(ref("stg_dengue_cases")) }}
)

select
    reasons.rule,
    reasons.table_name,
    reasons.why,
    coalesce(counted.rows_touched, 0) as rows_touched
from reasons
full outer join counted on reasons.rule = counted.rule
