with source as (
    select * from {{ source("raw", "airlines") }}
),

renamed as (
    select
        carrier,
        name,
        _known_at as known_at
    from source
)

select
    carrier,
    name,
    known_at
from renamed
