"""``surveillance feed``: replay a market into the input queue, at a chosen speed."""

from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surveillance_pipelines.commands.console import counted, say
from surveillance_pipelines.commands.days import span
from surveillance_pipelines.commands.options import SymbolOfFile, TimeZone
from surveillance_pipelines.contracts.errors import InvalidInputError

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
    from surveillance_pipelines.commands.feeding import send_ticks
    from surveillance_pipelines.commands.registration import register
    from surveillance_pipelines.commands.served import last_served, warn_of_late
    from surveillance_pipelines.commands.symbols import parse_symbols
    from surveillance_pipelines.services.platform import open_platform

    pace = parse_speed(speed)
    platform = open_platform()
    wanted = parse_symbols(symbols)
    only = None if day is None else day.date()
    if source == _SIMULATED:
        ticks = simulated_ticks(platform, wanted or platform.settings.symbols, only, per_bar=ticks_per_bar, seed=seed)
    else:
        ticks = ticks_of_file(Path(source), per_bar=ticks_per_bar, seed=seed, tz=tz, symbol=symbol)
    ticks = _narrow(ticks, wanted, only)
    first, last = span(ticks["event_time"].dt.date())
    register(platform, ticks["symbol"].unique(), source="feed", first=first, last=last)
    warn_of_late(ticks, last_served(platform, ticks["symbol"].unique()))
    queues = [platform.queue(url) for url in platform.endpoints.queue_urls]
    sent = send_ticks(ticks, queues, speed=pace, clock=platform.clock, feed_id=feed_id)
    say(f"sent {sent:,} ticks of {counted(ticks['symbol'].n_unique(), 'symbol')} to {counted(len(queues), 'queue')}")
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


def ticks_of_file(path: Path, *, per_bar: int, seed: int, tz: str | None, symbol: str | None = None) -> "pl.DataFrame":
    """Return the ticks of a file: its own, or made of its bars. Refused rows are counted and left out."""
    from surveillance_pipelines.commands.files import holds_trades, read_bars_file, read_ticks_file
    from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars

    read = read_ticks_file if holds_trades(path, tz=tz) else read_bars_file
    found = read(path, tz=tz, symbol=symbol)
    if found.refusals:
        refused = Counter(refusal.code for refusal in found.refusals)
        said = ", ".join(f"{count:,} {code}" for code, count in refused.most_common())
        say(f"left out {len(found.refusals):,} of {found.rows_in:,} rows: {said}", style="yellow")
    return ticks_from_bars(found.frame, per_bar, seed) if "open" in found.frame.columns else found.frame


def simulated_ticks(
    platform: "Platform", symbols: tuple[str, ...], day: date | None, *, per_bar: int, seed: int
) -> "pl.DataFrame":
    """Return the ticks of one simulated session: of ``day``, else the next after what was served, else the last ended.

    After a served session prices go on from its last ones.
    """
    from surveillance_pipelines.commands.served import last_served
    from surveillance_pipelines.commands.simulation import last_sessions, session_after, simulated_bars
    from surveillance_pipelines.market.bars_to_ticks import ticks_from_bars

    served = {} if day is not None else last_served(platform, symbols)
    if served:
        sessions = session_after(max(bar.bar_start for bar in served.values()), platform.clock)
    else:
        sessions = last_sessions(1, day, platform.clock)
    say(f"simulating the session of {sessions['session_date'][0]}")
    prices = {symbol: bar.close for symbol, bar in served.items()}
    return ticks_from_bars(simulated_bars(symbols, sessions, seed, prices), per_bar, seed)


def _narrow(ticks: "pl.DataFrame", symbols: tuple[str, ...], day: date | None) -> "pl.DataFrame":
    import polars as pl

    kept = ticks if not symbols else ticks.filter(pl.col("symbol").is_in(symbols))
    kept = kept if day is None else kept.filter(pl.col("event_time").dt.date() == day)
    if kept.is_empty():
        symbols_held = counted(ticks["symbol"].n_unique(), "symbol")
        held = f"{symbols_held} from {ticks['event_time'].min()} to {ticks['event_time'].max()}"
        raise InvalidInputError(
            f"expected ticks of {', '.join(symbols) or 'any symbol'} on {day or 'any day'}, got none; there are {held}",
            remedy="choose other --symbols or another --day",
        )
    return kept
