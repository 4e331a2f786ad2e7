"""``surveillance features``: compute the features of bars from a file or the lake, as known at an instant."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.commands.console import counted, echo, progress, table
from surveillance_pipelines.commands.options import (
    CalendarOfBars,
    Columns,
    DateOrderOption,
    SymbolOfFile,
    TimeZone,
    Unit,
)
from surveillance_pipelines.contracts.feature_tables import DEFAULT_VIEW

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.services.files import FileOptions
    from surveillance_pipelines.services.known_bars import KnownBars
    from surveillance_pipelines.services.platform import Platform

_DAY = ["%Y-%m-%d"]


def features(
    bars: Annotated[
        Path | None, typer.Argument(help="Parquet or CSV file of 1-minute bars; default: the bars of the lake.")
    ] = None,
    *,
    view: Annotated[str, typer.Option(help="Compute the features of this view.")] = DEFAULT_VIEW,
    columns: Annotated[str, typer.Option(help="Return only these features, separated by commas.")] = "",
    symbols: Annotated[
        str, typer.Option(help="Return only these symbols, separated by commas; all symbols remain peers.")
    ] = "",
    first: Annotated[datetime | None, typer.Option(formats=_DAY, help="Return only bars from this UTC day on.")] = None,
    last: Annotated[datetime | None, typer.Option(formats=_DAY, help="Return only bars up to this UTC day.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="Ignore rows that became known after this instant, such as 2024-03-06T14:30:00Z."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the features to this file: .parquet or .csv.")] = None,
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    file_columns: Columns = "",
    unit: Unit = None,
    date_order: DateOrderOption = None,
    calendar: CalendarOfBars = None,
) -> None:
    """Compute the features that training and the live lane use, for bars of a file or of the lake.

    Bars outside the result still serve as history and peers. Bars of a file need no service.
    """
    from surveillance_pipelines.services.features import require_view, write_features
    from surveillance_pipelines.services.files import file_options
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.known_bars import bars_of_lake
    from surveillance_pipelines.services.platform import open_platform

    names = [name.strip() for name in columns.split(",") if name.strip()] or None
    require_view(view, names)
    _require_writable(out)
    moment = None if as_of is None else _instant(as_of)
    days = (first.date() if first else None, last.date() if last else None)
    platform = open_platform()
    facts = file_options(columns=file_columns, timezone=tz, symbol=symbol, unit=unit, date_order=date_order)
    known = bars_of_lake(platform, days, as_of=moment) if bars is None else _bars_of_file(bars, facts, moment)
    wanted = require_symbols(symbols.split(","))
    scope = known.within(days, wanted)
    echo(
        f"{known.rows:,} rows in = {known.bars.height:,} bars (revisions included) + {known.refused:,} refused + "
        f"{known.duplicates:,} duplicates + {known.overruled:,} overruled + {known.not_yet_known:,} not yet known"
    )
    answer = _compute(platform, known, scope, view, names=names, calendar=calendar)
    _show(answer)
    if out is not None:
        write_features(answer, out)
        echo(f"wrote {answer.height:,} rows of {view} to {out}")
    known.require_mostly_valid()


def _bars_of_file(path: Path, options: "FileOptions", as_of: int | None) -> "KnownBars":
    """Return the bars of a file; print which rows were left out and why."""
    from surveillance_pipelines.services.known_bars import bars_of_file

    echo(f"reading {path} …")
    known = bars_of_file(path, options, as_of=as_of)
    for note in known.notes:
        echo(note, style="yellow")
    if known.refusals:
        counts = Counter(refusal.code for refusal in known.refusals)
        firsts = {refusal.code: refusal for refusal in reversed(known.refusals)}
        table(
            f"{known.refused:,} of {known.rows:,} rows refused",
            ("code", "rows", "first", "reason"),
            ((code, count, firsts[code].where, firsts[code].reason) for code, count in counts.most_common()),
            right=("rows",),
        )
    return known


def _instant(text: str) -> int:
    """Return an instant as microseconds since the epoch."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            f"expected an instant with its time zone, such as 2024-03-06T14:30:00Z, got {text!r}", param_hint="--as-of"
        )
    return to_us(moment)


def _compute(
    platform: "Platform",
    known: "KnownBars",
    scope: "pl.DataFrame",
    view: str,
    *,
    names: list[str] | None,
    calendar: str | None,
) -> "pl.DataFrame":
    from surveillance_pipelines.services.features import compute_features, is_compiled

    if not is_compiled():
        echo("compiling the feature kernel (once, about 15 s)")
    with progress("features", scope.height) as bar:
        return compute_features(platform, known, scope, view, columns=names, calendar=calendar, advanced=bar.advance)


def _show(answer: "pl.DataFrame") -> None:
    import polars as pl

    features_of_row = answer.columns[answer.columns.index("volume") + 1 :]
    complete = pl.all_horizontal(pl.col(features_of_row).is_finite())
    rows = answer.group_by("symbol").agg(
        pl.len(), pl.col("bar_start").min().alias("first"), pl.col("bar_start").max().alias("last"),
        complete.sum().alias("complete"),
    )  # fmt: skip
    echo(f"{counted(len(features_of_row), 'feature')} of {counted(answer.height, 'bar')}")
    table(
        "by symbol",
        ("symbol", "bars", "first bar", "last bar", "no feature missing"),
        rows.sort("symbol").iter_rows(),
        right=("bars", "no feature missing"),
    )


def _require_writable(out: Path | None) -> None:
    if out is None:
        return
    from surveillance_pipelines.services.features import WRITERS

    if out.suffix not in WRITERS:
        raise typer.BadParameter(f"expected one of {', '.join(WRITERS)}, got {out.name}", param_hint="--out")
    if not out.absolute().parent.is_dir():  # fail before the computation
        raise typer.BadParameter(f"expected the folder {out.absolute().parent} to exist", param_hint="--out")
