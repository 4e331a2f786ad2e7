"""``surveillance feed``: replay a market into the input queue, at a chosen speed."""

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surveillance_pipelines.commands.console import counted, progress, say
from surveillance_pipelines.commands.options import SymbolOfFile, TimeZone

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.services.platform import Platform

_DAY = ["%Y-%m-%d"]
_SIMULATED = "simulated"


def feed(
    source: Annotated[
        str, typer.Argument(metavar="PATH|simulated", help="Parquet or CSV of ticks or bars, or the word simulated.")
    ],
    *,
    speed: Annotated[
        str, typer.Option(help="Market seconds per second, such as 60; `max` for as fast as it goes.")
    ] = "max",
    day: Annotated[datetime | None, typer.Option(formats=_DAY, help="Only this UTC day.")] = None,
    symbols: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    ticks_per_bar: Annotated[int, typer.Option(min=4, help="When the file holds bars: ticks made of each.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the simulated market and of ticks made of bars.")] = 7,
    feed_id: Annotated[
        str, typer.Option(help="Part of the deduplication ids: feed the same ticks again as new ones with another.")
    ] = "",
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
) -> None:
    """Replay ticks, or bars as ticks, into the input queue.

    `simulated` is the session after the last one served, at first the last one before today. The message group is
    the symbol; with several queues a symbol always goes to the same one. Feeding the same ticks twice has no effect
    twice: SQS drops the repeat within five minutes, the ledger marks it as a duplicate afterwards.
    """
    from surveillance_pipelines.services.feeding import narrow_ticks, prepare_feed
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    pace = parse_speed(speed)
    platform = open_platform()
    wanted = require_symbols(symbols.split(","))
    only = None if day is None else day.date()
    if source == _SIMULATED:
        ticks = _simulated_ticks(platform, wanted or platform.settings.symbols, only, ticks_per_bar, seed)
    else:
        ticks = _ticks_of_file(Path(source), ticks_per_bar, seed, tz, symbol)
    ticks = narrow_ticks(ticks, wanted, only)
    _warn_of_late(prepare_feed(platform, ticks))
    sent = send(platform, ticks, speed=pace, feed_id=feed_id)
    queues = len(platform.endpoints.queue_urls)
    say(f"sent {sent:,} ticks of {counted(ticks['symbol'].n_unique(), 'symbol')} to {counted(queues, 'queue')}")
    say("they are served while the Dagster daemon runs (`surveillance up`); watch with `surveillance tail`")


def parse_speed(text: str) -> float | None:
    """Return market seconds per second, None for ``max``."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x").removesuffix("×"))
    except ValueError:
        speed = 0.0
    if speed <= 0:
        raise typer.BadParameter(f"expected a positive number or max, got {text!r}", param_hint="--speed")
    return speed


def send(platform: "Platform", ticks: "pl.DataFrame", *, speed: float | None, feed_id: str = "") -> int:
    """Send ticks to the input queues with a progress bar, and return how many were sent."""
    from surveillance_pipelines.services.feeding import send_ticks

    queues = [platform.queue(url) for url in platform.endpoints.queue_urls]
    with progress("ticks sent", total=ticks.height) as bar:
        return send_ticks(ticks, queues, speed=speed, clock=platform.clock, feed_id=feed_id, advanced=bar.set)


def _ticks_of_file(path: Path, per_bar: int, seed: int, tz: str | None, symbol: str | None) -> "pl.DataFrame":
    from surveillance_pipelines.services.feeding import ticks_of_file

    found = ticks_of_file(path, per_bar=per_bar, seed=seed, timezone=tz, symbol=symbol)
    if found.refused:
        reasons = ", ".join(f"{count:,} {code}" for code, count in found.refused.most_common())
        say(f"left out {found.refused.total():,} of {found.rows_in:,} rows: {reasons}", style="yellow")
    return found.ticks


def _simulated_ticks(
    platform: "Platform", symbols: tuple[str, ...], day: date | None, per_bar: int, seed: int
) -> "pl.DataFrame":
    from surveillance_pipelines.services.feeding import simulated_ticks

    ticks = simulated_ticks(platform, symbols, day, per_bar=per_bar, seed=seed)
    say(f"simulating the session of {ticks['date'][0]}")
    return ticks


def _warn_of_late(late: Mapping[datetime, list[str]]) -> None:
    """Print which symbols have ticks that are no newer than what was served of them."""
    for instant, symbols in late.items():
        say(
            f"{', '.join(symbols)} {'is' if len(symbols) == 1 else 'are'} served up to {instant:%Y-%m-%d %H:%M}: older "
            "ticks end as late and are not scored; use `surveillance --home DIR …` or another queue",
            style="yellow",
        )
