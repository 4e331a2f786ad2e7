"""``surveillance detect``: score a file of bars."""

from collections import Counter
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
from surveillance_pipelines.contracts.text import listed

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.services.detection import ChosenPredictor, Detection
    from surveillance_pipelines.services.files import FileOptions
    from surveillance_pipelines.services.training_match import InstrumentMatch

_DAY = ["%Y-%m-%d"]
_SHOWN: Final = 40
_SHOWN_SYMBOLS: Final = 60
"""Maximum number of symbols in the table of symbols."""
_LISTED: Final = 6
"""Maximum number of symbols in a sentence."""
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
    scores: Annotated[
        Path | None, typer.Option(help="Write the scores of every scored bar to this file, in a format of --out.")
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
    from surveillance_pipelines.services.instruments import calendars_of, require_symbols
    from surveillance_pipelines.services.platform import open_platform

    _require_writable(out=out, scores=scores, plot=plot)
    platform = open_platform()
    wanted, since = require_symbols(symbols.split(",")), None if first is None else first.date()
    facts = file_options(columns=columns, timezone=tz, symbol=symbol, unit=unit, date_order=date_order)
    found = _bars_of_file(bars, facts) if bars else detection.bars_of_lake(platform, since)
    chosen = detection.choose_predictor(platform, bundle=bundle, warmup=warmup)
    echo(f"{found.height:,} bars of {counted(found['symbol'].n_unique(), 'symbol')}, scored by {chosen.name}")
    _warn_of_simulated_training(detection.simulated_training_symbols(platform, chosen, found), chosen)
    scope = detection.Scope(wanted, lookback, since)
    calendars = calendars_of(platform, found["symbol"].unique(), calendar)
    result = detection.find_anomalies(platform.settings, found, chosen.predictor, scope=scope, calendars=calendars)
    show(result.anomalies)
    show_instruments(result)
    _warn_of_assumed_calendars(result)
    warn_of_training_match(result)
    _write_files(result, f"Anomalies found by {chosen.name}", out=out, scores=scores, plot=plot)


def _write_files(result: "Detection", title: str, *, out: Path | None, scores: Path | None, plot: Path | None) -> None:
    """Write the requested files, and say so."""
    from surveillance_pipelines.services.detection import price_chart

    if out is not None:
        getattr(result.anomalies, _WRITERS[out.suffix])(out)
        echo(f"wrote {counted(result.anomalies.height, 'anomaly', 'anomalies')} to {out}")
    if scores is not None:
        getattr(result.scores, _WRITERS[scores.suffix])(scores)
        echo(f"wrote the scores of {counted(result.scores.height, 'bar')} to {scores}")
    if plot is not None:
        chart = price_chart(result, title)
        plot.write_bytes(chart.png)
        echo(f"wrote {plot}")
        if chart.left_out:
            echo(f"left out of the chart, which has room for {len(chart.drawn)}: {listed(chart.left_out, _LISTED)}")


def _require_writable(*, out: Path | None, scores: Path | None, plot: Path | None) -> None:
    """Fail before the computation if a file to write has an unknown format or no folder."""
    for option, path in (("--out", out), ("--scores", scores)):
        if path is not None and path.suffix not in _WRITERS:
            raise typer.BadParameter(f"expected one of {', '.join(_WRITERS)}, got {path.name}", param_hint=option)
    if plot is not None and plot.suffix.lower() != ".png":
        raise typer.BadParameter(f"expected a name that ends in .png, got {plot.name}", param_hint="--plot")
    for option, path in (("--out", out), ("--scores", scores), ("--plot", plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"expected the folder {path.absolute().parent} to exist", param_hint=option)


def show(anomalies: "pl.DataFrame") -> None:
    """Print the strongest anomalies."""
    if anomalies.is_empty():
        echo("no anomalies")
        return
    strongest = anomalies.sort("score", descending=True).head(_SHOWN).sort("bar_start", "symbol")
    columns = ("bar_start", "symbol", "kind", "score", "confidence", "price", "volume")
    rows: list[tuple[Any, ...]] = [
        (f"{start:%Y-%m-%d %H:%M}", *between, price_cell(price), volume)
        for start, *between, price, volume in strongest.select(columns).iter_rows()
    ]
    total = counted(anomalies.height, "anomaly", "anomalies")
    title = total if len(rows) == anomalies.height else f"strongest {len(rows)} of {total}"
    table(f"{title}, by time", columns, rows, right=("score", "confidence", "price", "volume"))


def show_instruments(result: "Detection") -> None:
    """Print every scored symbol with its anomalies by kind, those with the most first, and its place in the training.

    If there are too many symbols for a table, the last line says how many are left out.
    """
    import polars as pl

    kinds: dict[str, Counter[str]] = {}
    for symbol, kind in result.anomalies.select("symbol", "kind").iter_rows():
        kinds.setdefault(symbol, Counter())[kind] += 1
    highest = dict(result.scores.group_by("symbol").agg(pl.col("anomaly_score").max()).iter_rows())
    ranked = sorted(result.instruments, key=lambda match: (-match.alerts, match.symbol))
    rows = [
        (
            match.symbol,
            match.bars,
            match.alerts,
            ", ".join(f"{kind} {count:,}" for kind, count in kinds.get(match.symbol, Counter()).most_common()) or None,
            highest.get(match.symbol),
            f"{match.calendar} ({result.calendars[match.symbol].basis})",
            _training_cell(match, result),
        )
        for match in ranked[:_SHOWN_SYMBOLS]
    ]
    columns = ("symbol", "bars", "anomalies", "kinds", "highest score", "calendar (basis)", "in the training data")
    table(counted(len(ranked), "symbol"), columns, rows, right=("bars", "anomalies", "highest score"))
    if left_out := ranked[_SHOWN_SYMBOLS:]:
        alerts = sum(match.alerts for match in left_out)
        echo(
            f"left out of the table: {counted(len(left_out), 'symbol')} with "
            f"{counted(alerts, 'anomaly', 'anomalies')}, {listed([match.symbol for match in left_out], _LISTED)}; "
            "--out and --scores write all"
        )


def _warn_of_assumed_calendars(result: "Detection") -> None:
    assumed = [match.symbol for match in result.instruments if result.calendars[match.symbol].is_assumed]
    if assumed:
        echo(
            f"the calendar of {listed(assumed, _LISTED)} is assumed to be DEFAULT_CALENDAR; if it is another one, "
            "use --calendar, or `surveillance instruments set SYMBOL --calendar NAME`"
        )


def _training_cell(match: "InstrumentMatch", result: "Detection") -> str | None:
    if result.domain is None:
        return None
    if match.outside:
        return f"no: {match.reason}"
    return "not recorded" if result.domain.unknown else "yes"


def warn_of_training_match(result: "Detection") -> None:
    """Warn of symbols, calendars, asset classes and days that the models were not trained on, with the anomalies."""
    from surveillance_pipelines.services.training_match import outside_days, outside_instruments

    domain = result.domain
    if domain is None:
        return
    for group in outside_instruments(result.instruments, domain):
        echo(
            f"outside the training data: {listed(group.symbols, _LISTED)} ({group.reason}): "
            f"{counted(group.alerts, 'anomaly', 'anomalies')} on {counted(group.bars, 'bar')}. The models were trained "
            f"on {group.trained_on}",
            style="yellow",
        )
    if (days := outside_days(result.scores, domain)) is not None:
        echo(
            f"outside the training days, {domain.first} to {domain.last}: {days.first} to {days.last}, "
            f"{counted(days.alerts, 'anomaly', 'anomalies')} on {counted(days.bars, 'bar')}",
            style="yellow",
        )
    if domain.unknown:
        names = ", ".join(name.replace("_", " ") for name in domain.unknown)
        echo(
            f"not known: whether the models were trained on bars like these, because the bundle does not record {names}"
            "; bundles of this release do (`surveillance train`)",
            style="yellow",
        )


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
    if symbols and chosen.domain is not None:
        echo(
            f"the model was trained on simulated bars ({listed(symbols, _LISTED)} up to {chosen.domain.last}), so its "
            "results for these bars mean little; run `ingest`, `backfill` and `train` in a separate home "
            "(`surveillance --home DIR …`)",
            style="yellow",
        )
