"""``surveillance detect``: score a file of bars."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from surveillance_pipelines.commands.console import say, table
from surveillance_pipelines.commands.failures import CommandError, ExitCode

if TYPE_CHECKING:
    import polars as pl

_SHOWN: Final = 40
_WRITERS: Final = {".parquet": "write_parquet", ".csv": "write_csv", ".json": "write_ndjson", ".ndjson": "write_ndjson"}


def detect(
    bars: Annotated[Path, typer.Argument(help="Parquet or CSV of 1-minute bars.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Where the anomalies go: .parquet, .csv or .ndjson.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Folder of a model bundle; the champion when absent.")] = None,
    warmup: Annotated[bool, typer.Option("--warmup", help="Use the rules of thumb instead of a model.")] = False,
    first: Annotated[str, typer.Option(help="Report from this UTC day on; earlier bars are history.")] = "",
    tz: Annotated[str | None, typer.Option(help="Time zone of naive timestamps, such as America/New_York.")] = None,
    symbol: Annotated[str | None, typer.Option(help="For a file without a symbol column.")] = None,
    calendar: Annotated[
        str | None, typer.Option(help="Trading calendar; by the symbols' spelling when absent.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Save a picture of prices with the anomalies marked.")] = None,
) -> None:
    """Score every bar of a file and list the anomalies. Nothing is stored but the files you name."""
    from surveillance_pipelines.commands.context import open_platform
    from surveillance_pipelines.commands.files import read_bars_file
    from surveillance_pipelines.commands.scoring import choose_scorer, find_anomalies

    if out is not None and out.suffix not in _WRITERS:
        raise typer.BadParameter(f"expected one of {', '.join(_WRITERS)}, got {out.name}", param_hint="--out")
    platform = open_platform()
    found = read_bars_file(bars, tz=tz, symbol=symbol)
    _require_minutes(found.frame, bars)
    scorer, said = choose_scorer(platform, bundle=bundle, warmup=warmup)
    say(f"{found.frame.height:,} bars of {found.frame['symbol'].n_unique()} symbols, scored by {said}")
    if found.refusals or found.duplicates:
        say(f"left out: {len(found.refusals):,} rows that are not valid, {found.duplicates:,} repeats", style="yellow")
    anomalies = find_anomalies(platform.settings, found.frame, scorer, calendar=calendar, first=first or None)
    show(anomalies)
    if out is not None:
        getattr(anomalies, _WRITERS[out.suffix])(out)
        say(f"wrote {anomalies.height:,} anomalies to {out}")
    if plot is not None:
        _plot(plot, found.frame, anomalies)


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
        (f"{row[0]:%Y-%m-%d %H:%M}", *row[1:]) for row in strongest.select(columns).iter_rows()
    ]
    table(f"the {len(rows)} strongest, by time", columns, rows, right=("score", "confidence", "price", "volume"))


def _require_minutes(frame: "pl.DataFrame", path: Path) -> None:
    if frame.is_empty():
        raise CommandError(
            f"no row of {path} could be used",
            remedy=f"`surveillance ingest {path}` keeps the reasons",
            code=ExitCode.USAGE,
        )
    timeframe = frame["timeframe"][0]
    if timeframe != "1m":
        raise CommandError(
            f"expected 1-minute bars, {path} holds {timeframe}",
            code=ExitCode.USAGE,
            remedy="the models know 1-minute bars only; give a finer file",
        )


def _plot(path: Path, bars: "pl.DataFrame", anomalies: "pl.DataFrame") -> None:
    from surveillance_pipelines.commands.pictures import price_picture

    path.write_bytes(price_picture(bars, anomalies))
    say(f"wrote {path}")
