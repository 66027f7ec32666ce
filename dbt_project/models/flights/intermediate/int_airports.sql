with airports as (
    select
        airport,
        name,
        latitude,
        longitude,
        time_zone,
        false as is_added
    from {{ ref("stg_airports") }}
),

added as (
    select
        airport,
        name,
        latitude,
        longitude,
        time_zone,
        true as is_added
    from {{ ref("destinations_without_airport") }}
    where airport not in (select airports.airport from airports)
)

select * from airports
union all
select * from added
