"""What Feast knows of dengue in Taiwan: one feature view per table of dbt_project/models/dengue/features.

Both tables get a row per key on Mondays. Counts are as known then, and on the scale ln(1 + n).
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, String

from hindcast.features.lake_source import LakeSource

OWNER = "dengue data team"
# A feed that is late by a day or two is bridged; last week's counts aren't this week's.
TTL = timedelta(days=10)

township = Entity(name="township", value_type=ValueType.STRING, description="A township and its county.")
county = Entity(name="county", value_type=ValueType.STRING, description="A county or city of Taiwan.")


def view(name: str, entity: Entity, description: str, features: dict[str, str]) -> FeatureView:
    """The view over the table of the same name; its features, all of them numbers, with what each means."""
    fields = [Field(name=feature, dtype=Float64, description=meaning) for feature, meaning in features.items()]
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=TTL,
        schema=[Field(name=entity.join_key, dtype=String), *fields],
        source=LakeSource(name=name, table=f"features.{name}", description=description, owner=OWNER),
        description=description,
        tags={"topic": "cases"},
        owner=OWNER,
    )


township_cases = view(
    "township_cases",
    township,
    "The township's cases as known then, and those of the townships around it.",
    {
        "log_onset_1w": "Cases with onset in the last seven days, as far as known.",
        "log_onset_2w": "Cases with onset in the seven days before those, as far as known.",
        "log_reported_3d": "Cases that became known in the last three days.",
        "log_reported_1w": "Cases that became known in the last week.",
        "log_reported_2w": "Cases that became known in the week before the last.",
        "log_reported_4w": "Cases that became known in the last four weeks.",
        "log_reported_52w": "Cases that became known in the last 52 weeks.",
        "log_imported_4w": "Cases infected abroad that became known in the last four weeks.",
        "weeks_since_report": "Weeks since a case last became known, at most 104.",
        "log_nearby_onset_1w": "As log_onset_1w, over the townships less than 20 km away, weighted by distance.",
        "log_nearby_reported_1w": "As log_reported_1w, over the same townships.",
    },
)

county_cases = view(
    "county_cases",
    county,
    "The county's and the whole country's cases as known then, and the season.",
    {
        "log_county_reported_1w": "Cases of the county that became known in the last week.",
        "log_county_reported_2w": "Cases of the county that became known in the week before the last.",
        "log_taiwan_reported_3d": "Cases of the whole country that became known in the last three days.",
        "log_taiwan_reported_1w": "Cases of the whole country that became known in the last week.",
        "log_taiwan_reported_2w": "Cases of the whole country that became known in the week before the last.",
        "season_sin": "Sine of the day of the year, as an angle.",
        "season_cos": "Cosine of the same.",
    },
)

dengue = FeatureService(
    name="dengue",
    features=[township_cases, county_cases],
    description="What is known of a township's dengue on a Monday morning.",
    tags={"problem": "dengue"},
    owner=OWNER,
)
