"""What the live lane has served already: older ticks of the same symbols on the same queue end as late."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from surveillance_pipelines.commands.console import say
from surveillance_pipelines.services.platform import Platform

if TYPE_CHECKING:
    import polars as pl

_LAST_BARS: Final = """
    SELECT asked.symbol, last.bar_start, last.close
    FROM unnest(%s::text[]) AS asked (symbol)
    CROSS JOIN LATERAL (
        SELECT bar_start, close FROM ops.live_bars
        WHERE symbol = asked.symbol AND queue_url = ANY(%s)
        ORDER BY bar_start DESC, revision DESC LIMIT 1
    ) AS last
"""


@dataclass(frozen=True, slots=True)
class LastBar:
    """The newest bar of a symbol that the live lane has closed."""

    bar_start: datetime
    close: float


def last_served(platform: Platform, symbols: Iterable[str]) -> dict[str, LastBar]:
    """Return symbol → its newest bar served on the platform's queues; symbols never served are absent."""
    queues = list(platform.endpoints.queue_urls)
    with platform.connect() as connection:
        rows = connection.execute(_LAST_BARS, (sorted(set(symbols)), queues)).fetchall()
    return {symbol: LastBar(bar_start, close) for symbol, bar_start, close in rows}


def warn_of_late(ticks: "pl.DataFrame", served: Mapping[str, LastBar]) -> None:
    """Say which symbols have ticks here that are no newer than what was served of them."""
    import polars as pl

    begins = dict(ticks.group_by("symbol").agg(pl.col("event_time").min().dt.truncate("1m")).iter_rows())
    by_instant: dict[datetime, list[str]] = {}
    for symbol, last in sorted(served.items()):
        if symbol in begins and begins[symbol] <= last.bar_start:
            by_instant.setdefault(last.bar_start, []).append(symbol)
    for instant, symbols in by_instant.items():
        say(
            f"{', '.join(symbols)} {'is' if len(symbols) == 1 else 'are'} served up to {instant:%Y-%m-%d %H:%M}: older "
            "ticks end as late and are not scored; use `surveillance --home DIR …` or another queue",
            style="yellow",
        )
