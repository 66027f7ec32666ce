"""Stage labeled: one row per entity with its label and since when that is known. The rule is in `dbt_project/`."""

from assets.dbt import dbt_stage

labeled_tables = dbt_stage("labeled", select="tag:labeled")
