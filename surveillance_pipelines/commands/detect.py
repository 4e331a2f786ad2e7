"""``surveillance detect``: score a file of bars."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from surveillance_pipelines.commands.console import counted, price_cell, say, table
from surveillance_pipelines.commands.options import CalendarOfBars, SymbolOfFile, TimeZone
from surveillance_pipelines.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.services.platform import Platform

_DAY = ["%Y-%m-%d"]
_SHOWN: Final = 40
_OWN_BARS: Final = "bars_1m"
_HISTORY: Final = timedelta(days=14)
_WRITERS: Final = {".parquet": "write_parquet", ".csv": "write_csv", ".json": "write_ndjson", ".ndjson": "write_ndjson"}


def detect(
    bars: Annotated[
        Path | None, typer.Argument(help="Parquet or CSV of 1-minute bars; the platform's own when absent.")
    ] = None,
    *,
    symbols: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    lookback: Annotated[int | None, typer.Option(min=1, help="Only the newest bars of each symbol, so many.")] = None,
    first: Annotated[datetime | None, typer.Option(formats=_DAY, help="Only bars from this UTC day on.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the anomalies go: .parquet, .csv, .json or .ndjson (a row a line).")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a picture of prices with the anomalies marked.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Folder of a model bundle; the champion when absent.")] = None,
    warmup: Annotated[bool, typer.Option("--warmup", help="Use the rules of thumb instead of a model.")] = False,
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    calendar: CalendarOfBars = None,
) -> None:
    """Score bars and list the anomalies: a file's, or the platform's own (`--symbols AAPL --lookback 60`).

    Bars that are left out of the report are history for the others. Nothing is stored but the files you name.
    """
    from surveillance_pipelines.commands.scoring import Scope, choose_scorer, find_anomalies, warn_of_synthetic_training
    from surveillance_pipelines.commands.symbols import parse_symbols
    from surveillance_pipelines.services.platform import open_platform

    if out is not None and out.suffix not in _WRITERS:
        raise typer.BadParameter(f"expected one of {', '.join(_WRITERS)}, got {out.name}", param_hint="--out")
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None and not path.absolute().parent.is_dir():  # said before the work, not after it
            raise typer.BadParameter(f"expected a folder {path.absolute().parent}, found none", param_hint=option)
    platform = open_platform()
    wanted = parse_symbols(symbols)
    found = _bars_of_file(bars, tz, symbol) if bars else _bars_of_lake(platform, first)
    choice = choose_scorer(platform, bundle=bundle, warmup=warmup)
    say(f"{found.height:,} bars of {counted(found['symbol'].n_unique(), 'symbol')}, scored by {choice.said}")
    warn_of_synthetic_training(platform, choice, found)
    scope = Scope(wanted, lookback, None if first is None else first.date())
    detection = find_anomalies(platform.settings, found, choice.scorer, scope=scope, calendar=calendar)
    show(anomalies := detection.anomalies)
    if out is not None:
        getattr(anomalies, _WRITERS[out.suffix])(out)
        say(f"wrote {anomalies.height:,} anomalies to {out}")
    if plot is not None:
        from surveillance_pipelines.training.price_plot import prices_with_anomalies

        plot.write_bytes(prices_with_anomalies(detection.bars, anomalies, title=f"Anomalies found by {choice.said}"))
        say(f"wrote {plot}")


def show(anomalies: "pl.DataFrame") -> None:
    """Print how many anomalies of each kind there are, and the strongest ones."""
    import polars as pl

    if anomalies.is_empty():
        say("no anomalies")
        return
    by_kind = anomalies.group_by("symbol", "kind").agg(pl.len(), pl.col("score").max()).sort("symbol", "kind")
    table(
        f"{anomalies.height:,} anomalies",
        ("symbol", "kind", "bars", "highest score"),
        by_kind.iter_rows(),
        right=("bars", "highest score"),
    )
    strongest = anomalies.sort("score", descending=True).head(_SHOWN).sort("bar_start", "symbol")
    columns = ("bar_start", "symbol", "kind", "score", "confidence", "price", "volume")
    rows: list[tuple[Any, ...]] = [
        (f"{start:%Y-%m-%d %H:%M}", *between, price_cell(price), volume)
        for start, *between, price, volume in strongest.select(columns).iter_rows()
    ]
    table(f"the {len(rows)} strongest, by time", columns, rows, right=("score", "confidence", "price", "volume"))


def _bars_of_file(path: Path, tz: str | None, symbol: str | None) -> "pl.DataFrame":
    from surveillance_pipelines.commands.files import first_reason, read_bars_file

    found = read_bars_file(path, tz=tz, symbol=symbol)
    if found.refusals or found.duplicates:
        say(f"left out: {len(found.refusals):,} rows that are not valid, {found.duplicates:,} repeats", style="yellow")
    if found.frame.is_empty():
        remedy = f"`surveillance ingest {path}` keeps the reasons"
        said = f"no row of {path} could be used: {first_reason(found) or 'it has none'}"
        raise InvalidInputError(said, remedy=remedy)
    timeframe = found.frame["timeframe"][0]
    if timeframe != "1m":
        remedy = "the models know 1-minute bars only; give a finer file"
        raise InvalidInputError(f"expected 1-minute bars, {path} holds {timeframe}", remedy=remedy)
    return found.frame


def _bars_of_lake(platform: "Platform", first: datetime | None) -> "pl.DataFrame":
    """Return the platform's own bars: the last two weeks, or from two weeks before ``first`` on."""
    from surveillance_pipelines.contracts.frames import BAR_SCHEMA

    days = platform.lake.days(_OWN_BARS)
    if not days:
        remedy = "`surveillance ingest` and `surveillance backfill` fill it; or name a file of bars"
        raise InvalidInputError(f"expected bars in the lake table {_OWN_BARS}, found none", remedy=remedy)
    if first is not None and first.date() > days[-1]:
        raise InvalidInputError(
            f"expected bars from {first:%Y-%m-%d} on, the last in the lake are of {days[-1]}",
            remedy="choose an earlier --first, or bring newer bars in (`surveillance ingest`, `surveillance backfill`)",
        )
    begin = (days[-1] if first is None else first.date()) - _HISTORY
    return platform.lake.read(_OWN_BARS, days=(begin, days[-1]), schema=BAR_SCHEMA)
