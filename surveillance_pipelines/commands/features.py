"""``surveillance features``: the features of a file of bars, or of the platform's own, as known at an instant."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from surveillance_pipelines.commands.console import counted, progress, say, table
from surveillance_pipelines.commands.options import CalendarOfBars, SymbolOfFile, TimeZone
from surveillance_pipelines.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    import polars as pl

    from surveillance_pipelines.commands.known_bars import Known

_DAY = ["%Y-%m-%d"]
_WRITERS: Final = {".parquet": "write_parquet", ".csv": "write_csv"}
_UNFINISHED: Final = ".unfinished"


def features(
    bars: Annotated[
        Path | None, typer.Argument(help="Parquet or CSV of 1-minute bars; the platform's own when absent.")
    ] = None,
    *,
    view: Annotated[str, typer.Option(help="Feature view.")] = "core_v1",
    columns: Annotated[str, typer.Option(help="Only these features, separated by commas.")] = "",
    symbols: Annotated[str, typer.Option(help="Only these, separated by commas; the others still are peers.")] = "",
    first: Annotated[datetime | None, typer.Option(formats=_DAY, help="Only bars from this UTC day on.")] = None,
    last: Annotated[datetime | None, typer.Option(formats=_DAY, help="Only bars up to this UTC day.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="As known at this instant, such as 2024-03-06T14:30:00Z; later rows do not exist."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the features go: .parquet or .csv.")] = None,
    tz: TimeZone = None,
    symbol: SymbolOfFile = None,
    calendar: CalendarOfBars = None,
) -> None:
    """Compute features of bars, the ones that training and the live lane use: of a file, or of the platform's own bars.

    Bars that are left out of the answer are history and peers of the others. A file needs no store and no service.
    """
    from surveillance_pipelines.commands.known_bars import bars_of_file, bars_of_lake, instant
    from surveillance_pipelines.commands.symbols import parse_symbols
    from surveillance_pipelines.features.views import VIEWS
    from surveillance_pipelines.services.platform import open_platform

    if view not in VIEWS:
        raise typer.BadParameter(f"expected one of {', '.join(VIEWS)}, got {view!r}", param_hint="--view")
    _require_writable(out)
    moment = None if as_of is None else instant(as_of)
    names = [name.strip() for name in columns.split(",") if name.strip()] or None
    days = (first.date() if first else None, last.date() if last else None)
    platform = open_platform()
    if bars is None:
        known = bars_of_lake(platform, days, as_of=moment)
    else:
        say(f"reading {bars} …")
        known = bars_of_file(bars, tz=tz, symbol=symbol, as_of=moment)
    wanted = parse_symbols(symbols)
    scope = known.within(days, wanted)
    say(
        f"{known.rows:,} rows in = {known.bars.height:,} bars (revisions included) + {known.refused:,} refused + "
        f"{known.duplicates:,} duplicates + {known.overruled:,} overruled + {known.not_yet_known:,} not known by then"
    )
    default = platform.settings.default_calendar
    answer = _compute(known, scope, view, names=names, calendar=calendar, default=default)
    _show(answer)
    if out is not None:
        _write(answer, out)
        say(f"wrote {answer.height:,} rows of {view} to {out}")
    known.require_mostly_good()


def _compute(
    known: "Known", scope: "pl.DataFrame", view: str, *, names: list[str] | None, calendar: str | None, default: str
) -> "pl.DataFrame":
    from surveillance_pipelines.commands.scoring import sessions_of
    from surveillance_pipelines.features.batch import chosen_columns, features_of_days
    from surveillance_pipelines.features.batch_kernel import is_compiled
    from surveillance_pipelines.features.views import VIEWS

    chosen_columns(VIEWS[view], names)  # said before the sessions are computed, which takes seconds
    sessions = sessions_of(known.bars, calendar, default)
    symbols = set(scope["symbol"])
    if not is_compiled():
        say("compiling the features, once: a quarter of a minute")
    with progress("features", scope.height) as bar:
        return features_of_days(
            known.bars, scope["date"].unique().sort().to_list(), sessions, VIEWS[view], columns=names,
            symbols=symbols, advanced=bar.advance,
        )  # fmt: skip


def _show(answer: "pl.DataFrame") -> None:
    import polars as pl

    if answer.is_empty():
        raise InvalidInputError(
            "expected bars whose first version was known, got corrections of unknown bars only",
            remedy="name a later --as-of",
        )
    features_of_row = answer.columns[answer.columns.index("volume") + 1 :]
    complete = pl.all_horizontal(pl.col(features_of_row).is_finite())
    rows = answer.group_by("symbol").agg(
        pl.len(), pl.col("bar_start").min().alias("first"), pl.col("bar_start").max().alias("last"),
        complete.sum().alias("complete"),
    )  # fmt: skip
    say(f"{counted(len(features_of_row), 'feature')} of {counted(answer.height, 'bar')}")
    table(
        "by symbol",
        ("symbol", "bars", "first bar", "last bar", "no feature missing"),
        rows.sort("symbol").iter_rows(),
        right=("bars", "no feature missing"),
    )


def _require_writable(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in _WRITERS:
        raise typer.BadParameter(f"expected one of {', '.join(_WRITERS)}, got {out.name}", param_hint="--out")
    if not out.absolute().parent.is_dir():  # said before the work, not after it
        raise typer.BadParameter(f"expected a folder {out.absolute().parent}, found none", param_hint="--out")


def _write(answer: "pl.DataFrame", out: Path) -> None:
    """Write the file under another name first: one of that name is always whole."""
    unfinished = out.with_name(out.name + _UNFINISHED)
    try:
        getattr(answer, _WRITERS[out.suffix])(unfinished)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
