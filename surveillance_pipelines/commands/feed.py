"""``surveillance feed``: send the ticks of a file or of the simulator to the input queue, at a chosen speed."""

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surveillance_pipelines.commands.console import counted, echo, progress
from surveillance_pipelines.commands.options import (
    Columns,
    DateOrderOption,
    SymbolOfFile,
    TimeZone,
    Unit,
)

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.services.files import FileOptions
    from surveillance_pipelines.services.platform import Platform

_DAY = ["%Y-%m-%d"]
_SIMULATED = "simulated"


def feed(
    source: Annotated[
        str, typer.Argument(metavar="PATH|simulated", help="Parquet or CSV file of ticks or bars, or `simulated`.")
    ],
    *,
    speed: Annotated[
        str, typer.Option(help="Set the speed in market seconds per second, such as 60; `max` sends without pauses.")
    ] = "max",
    day: Annotated[datetime | None, typer.Option(formats=_DAY, help="Send only this UTC day.")] = None,
    symbols: Annotated[str, typer.Option(help="Send only these symbols, separated by commas.")] = "",
    ticks_per_bar: Annotated[int, typer.Option(min=4, help="Create this many ticks from each bar of a file.")] = 4,
    seed: Annotated[int, typer.Option(help="Set the random seed of simulated markets and of ticks from bars.")] = 7,
    feed_id: Annotated[
        str, typer.Option(help="Add this id to the deduplication ids; a new id makes repeated ticks count as new.")
    ] = "",
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    columns: Columns = "",
    unit: Unit = None,
    date_order: DateOrderOption = None,
) -> None:
    """Send ticks, or ticks made from bars, to the input queue.

    `simulated` sends the session after the last served one, or the last session before today if none was served. The
    message group is the symbol; with several queues, a symbol always goes to the same queue. Sending the same ticks
    again has no effect: SQS drops them within five minutes, and later the ledger records them as duplicates.
    """
    from surveillance_pipelines.services.feeding import filter_ticks, prepare_feed
    from surveillance_pipelines.services.files import file_options
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    pace = parse_speed(speed)
    platform = open_platform()
    wanted = require_symbols(symbols.split(","))
    only = None if day is None else day.date()
    if source == _SIMULATED:
        ticks = _simulated_ticks(platform, wanted or platform.settings.symbols, only, ticks_per_bar, seed)
    else:
        facts = file_options(columns=columns, timezone=tz, symbol=symbol, unit=unit, date_order=date_order)
        ticks = _ticks_of_file(Path(source), facts, ticks_per_bar, seed)
    ticks = filter_ticks(ticks, wanted, only)
    _warn_of_late(prepare_feed(platform, ticks))
    sent = send(platform, ticks, speed=pace, feed_id=feed_id)
    queues = len(platform.endpoints.queue_urls)
    echo(f"sent {sent:,} ticks of {counted(ticks['symbol'].n_unique(), 'symbol')} to {counted(queues, 'queue')}")
    echo("the Dagster daemon (`surveillance up`) serves them; `surveillance alerts` then lists the alerts")


def parse_speed(text: str) -> float | None:
    """Return the speed in market seconds per second; None for ``max``."""
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


def _ticks_of_file(path: Path, options: "FileOptions", per_bar: int, seed: int) -> "pl.DataFrame":
    from surveillance_pipelines.services.feeding import ticks_of_file

    found = ticks_of_file(path, options, per_bar=per_bar, seed=seed)
    for note in found.notes:
        echo(f"note: {note}")
    if found.refused:
        reasons = ", ".join(f"{count:,} {code}" for code, count in found.refused.most_common())
        echo(
            f"left out {found.refused.total():,} of {found.rows_in:,} rows: {reasons}; {found.first_reason}",
            style="yellow",
        )
    return found.ticks


def _simulated_ticks(
    platform: "Platform", symbols: tuple[str, ...], day: date | None, per_bar: int, seed: int
) -> "pl.DataFrame":
    from surveillance_pipelines.services.feeding import simulated_ticks

    ticks = simulated_ticks(platform, symbols, day, per_bar=per_bar, seed=seed)
    echo(f"simulating the session of {ticks['date'][0]}")
    return ticks


def _warn_of_late(late: Mapping[datetime, list[str]]) -> None:
    """Warn about symbols with ticks that are not newer than their last served bar."""
    for instant, symbols in late.items():
        echo(
            f"{', '.join(symbols)}: already served up to {instant:%Y-%m-%d %H:%M}; older ticks are recorded as late "
            "and not scored; to score them, use a separate home (`surveillance --home DIR …`)",
            style="yellow",
        )
