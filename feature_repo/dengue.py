"""What Feast knows of dengue in Taiwan: one feature view per table of dbt_project/models/dengue/features.

Both tables get a row per key on Mondays. Counts are as known then, and on the scale ln(1 + n).
"""

from datetime import timedelta

from feast import Entity, FeatureService, ValueType

from hindcast.features.described import DescribedTables

OWNER = "dengue data team"
# A feed that is late by a day or two is bridged; last week's counts aren't this week's.
TTL = timedelta(days=10)

township = Entity(name="township", value_type=ValueType.STRING, description="A township and its county.")
county = Entity(name="county", value_type=ValueType.STRING, description="A county or city of Taiwan.")


tables = DescribedTables(__file__, owner=OWNER)

township_cases = tables.view("township_cases", [township], TTL, tags={"topic": "cases"})
county_cases = tables.view("county_cases", [county], TTL, tags={"topic": "cases"})

dengue = FeatureService(
    name="dengue",
    features=[township_cases, county_cases],
    description="What is known of a township's dengue on a Monday morning.",
    tags={"problem": "dengue"},
    owner=OWNER,
)
