with places as (
    select * from {{ ref("townships") }}
),

pairs as (
    select
        here.township,
        there.township as neighbour,
        -- Degrees of longitude shrink with the latitude. Over twenty kilometres the earth is flat enough.
        111.2 * sqrt(
            power(there.latitude - here.latitude, 2)
            + power((there.longitude - here.longitude) * cos(radians(here.latitude)), 2)
        ) as kilometres
    from places as here
    inner join places as there on here.township <> there.township
)

select
    township,
    neighbour,
    -- In thousandths: whole numbers add up to the same in any order.
    cast(round(1000 * exp(-kilometres / 5)) as integer) as weight
from pairs
where kilometres < 20
