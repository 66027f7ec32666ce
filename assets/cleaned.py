"""Stage cleaned: dbt's staging and intermediate models, and how many rows each cleaning rule touched.

The rules are in `dbt_project/models/staging` and `intermediate`, their reasons in `dbt_project/seeds`.
"""

from assets.dbt import dbt_stage

cleaned_tables = dbt_stage("cleaned", select="tag:cleaned")
