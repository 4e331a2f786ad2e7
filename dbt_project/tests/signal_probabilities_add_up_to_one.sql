{{ config(meta={
    "description": "Buy, hold and sell probabilities of a signal sum to 1.",
    "dagster": {"ref": {"name": "stg_signals"}},
}) }}
select signal_id, buy_probability, hold_probability, sell_probability
from {{ ref("stg_signals") }}
where abs(buy_probability + hold_probability + sell_probability - 1) > 1e-6
