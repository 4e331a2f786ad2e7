{{ config(meta={
    "description": "Messages of a day equal scored + late + dead + duplicate.",
    "dagster": {"ref": {"name": "ingestion_health_by_day"}},
}) }}
select day, messages, scored, late, dead, duplicate
from {{ ref("ingestion_health_by_day") }}
where messages <> scored + late + dead + duplicate
