"""``surveillance detect``: score a file of bars."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from surveillance_pipelines.commands.console import counted, echo, price_cell, table
from surveillance_pipelines.commands.options import (
    CalendarOfBars,
    Columns,
    DateOrderOption,
    SymbolOfFile,
    TimeZone,
    Unit,
)

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.services.detection import ChosenPredictor
    from surveillance_pipelines.services.files import FileOptions

_DAY = ["%Y-%m-%d"]
_SHOWN: Final = 40
_SHOWN_SYMBOLS: Final = 6
_WRITERS: Final = {".parquet": "write_parquet", ".csv": "write_csv", ".json": "write_ndjson", ".ndjson": "write_ndjson"}


def detect(
    bars: Annotated[
        Path | None, typer.Argument(help="Parquet or CSV file of 1-minute bars; default: the bars of the lake.")
    ] = None,
    *,
    symbols: Annotated[str, typer.Option(help="Report only these symbols, separated by commas.")] = "",
    lookback: Annotated[int | None, typer.Option(min=1, help="Report only this many newest bars per symbol.")] = None,
    first: Annotated[datetime | None, typer.Option(formats=_DAY, help="Report only bars from this UTC day on.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the anomalies to this file: .parquet, .csv, .json or .ndjson (one row per line)."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a price chart with the anomalies marked, .png.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Use the model bundle in this folder; default: the champion.")
    ] = None,
    warmup: Annotated[bool, typer.Option("--warmup", help="Use the warm-up rules instead of a model.")] = False,
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    columns: Columns = "",
    unit: Unit = None,
    date_order: DateOrderOption = None,
    calendar: CalendarOfBars = None,
) -> None:
    """Score the bars of a file or of the lake (`--symbols AAPL --lookback 60`), and list the anomalies.

    Bars outside the report still serve as history of the reported ones. Only the files you name are written.
    """
    from surveillance_pipelines.services import detection
    from surveillance_pipelines.services.files import file_options
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    if out is not None and out.suffix not in _WRITERS:
        raise typer.BadParameter(f"expected one of {', '.join(_WRITERS)}, got {out.name}", param_hint="--out")
    if plot is not None and plot.suffix.lower() != ".png":
        raise typer.BadParameter(f"expected a name that ends in .png, got {plot.name}", param_hint="--plot")
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None and not path.absolute().parent.is_dir():  # fail before the computation
            raise typer.BadParameter(f"expected the folder {path.absolute().parent} to exist", param_hint=option)
    platform = open_platform()
    wanted, since = require_symbols(symbols.split(",")), None if first is None else first.date()
    facts = file_options(columns=columns, timezone=tz, symbol=symbol, unit=unit, date_order=date_order)
    found = _bars_of_file(bars, facts) if bars else detection.bars_of_lake(platform, since)
    chosen = detection.choose_predictor(platform, bundle=bundle, warmup=warmup)
    echo(f"{found.height:,} bars of {counted(found['symbol'].n_unique(), 'symbol')}, scored by {chosen.name}")
    _warn_of_simulated_training(detection.simulated_training_symbols(platform, chosen, found), chosen)
    scope = detection.Scope(wanted, lookback, since)
    result = detection.find_anomalies(platform.settings, found, chosen.predictor, scope=scope, calendar=calendar)
    show(anomalies := result.anomalies)
    if out is not None:
        getattr(anomalies, _WRITERS[out.suffix])(out)
        echo(f"wrote {anomalies.height:,} anomalies to {out}")
    if plot is not None:
        plot.write_bytes(detection.price_chart(result, f"Anomalies found by {chosen.name}"))
        echo(f"wrote {plot}")


def show(anomalies: "pl.DataFrame") -> None:
    """Print the number of anomalies per kind and the strongest anomalies."""
    import polars as pl

    if anomalies.is_empty():
        echo("no anomalies")
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
    table(f"strongest {len(rows)}, by time", columns, rows, right=("score", "confidence", "price", "volume"))


def _bars_of_file(path: Path, options: "FileOptions") -> "pl.DataFrame":
    from surveillance_pipelines.services.detection import bars_of_file

    found = bars_of_file(path, options)
    for note in found.notes:
        echo(f"note: {note}")
    if found.refusals or found.duplicates:
        echo(f"left out: {len(found.refusals):,} invalid rows, {found.duplicates:,} duplicates", style="yellow")
    if found.refusals:
        echo(f"first invalid row: {found.first_reason}", style="yellow")
    return found.frame


def _warn_of_simulated_training(symbols: Sequence[str], chosen: "ChosenPredictor") -> None:
    if symbols:
        echo(
            f"the model was trained on simulated bars ({', '.join(symbols[:_SHOWN_SYMBOLS])} up to "
            f"{chosen.trained_to}), so its results for these bars mean little; run `ingest`, `backfill` and `train` in "
            "a separate home (`surveillance --home DIR …`)",
            style="yellow",
        )
