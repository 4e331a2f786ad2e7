"""A user's Parquet or CSV file brought to known column names and types, without losing a row on the way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from surveillance_pipelines.contracts.market import UTC_MICROSECONDS
from surveillance_pipelines.market.row_checks import CODE, RAW

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "symbol": ("symbol", "ticker", "sym", "instrument"),
    "time": ("bar_start", "ts", "timestamp", "datetime", "date", "time", "event_time", "ts_event"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "vol", "v", "size", "qty", "amount"),
    "price": ("price", "last"),
    "suspicious": ("suspicious",),
}
"""Accepted names, first match wins; letter case and spaces do not matter. Other columns are ignored."""

_EPOCH_UNITS: Final = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1))
"""Whole-number times: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds."""

_WRITTEN_DATES: Final = (19_000_101, 21_001_231)
"""Whole numbers in here are dates such as 20240115; as epochs they would be some days of August 1970."""


class FileError(ValueError):
    """The file as a whole cannot be read: it says what was expected, what came and what to do."""


def load_table(path: Path) -> pl.DataFrame:
    """Return a file's rows with normalised column names; CSV columns stay text until each value is checked.

    Raises:
        FileError: if the file is absent, neither Parquet nor CSV, or unreadable.
    """
    if not path.is_file():
        raise FileError(f"expected a Parquet or CSV file, got no file at {path}")
    try:
        table = _read(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileError(f"expected readable Parquet or CSV, {path.name} could not be read: {error}") from error
    names = [name.strip().lower().replace(" ", "_") for name in table.columns]
    if len(set(names)) != len(names):
        raise FileError(f"expected each column once, got {names} in {path.name}")
    table.columns = names
    return table


def pick_columns(
    table: pl.DataFrame, wanted: Sequence[str], *, path: Path, symbol: str | None, timezone: str | None, dates: bool
) -> pl.DataFrame:
    """Return the wanted columns under their own names and types, beside ``raw_row`` and ``refusal_code``.

    Args:
        table: as ``load_table`` gave it.
        wanted: keys of ``ALIASES``; ``volume`` and ``suspicious`` may be absent.
        path: for messages.
        symbol: for files of one instrument without a symbol column.
        timezone: of times that carry none, such as ``America/New_York``.
        dates: whether times without a zone are dates, which need none.

    Raises:
        FileError: if a column is absent, or times carry no zone and none was given.
    """
    found = {key: next((name for name in ALIASES[key] if name in table.columns), None) for key in wanted}
    missing = [key for key in wanted if found[key] is None and key not in {"volume", "suspicious"}]
    if symbol is not None and "symbol" in missing:
        missing.remove("symbol")
    if missing:
        raise FileError(f"expected columns {list(wanted)}, {path.name} lacks {missing} and has {table.columns}")
    numbers = [key for key in wanted if key not in {"symbol", "time"} and found[key] is not None]
    own_symbol = pl.lit(symbol) if found["symbol"] is None else pl.col(str(found["symbol"]))
    picked = table.select(
        own_symbol.cast(pl.String).str.strip_chars().str.to_uppercase().alias("symbol"),
        _instants(table[str(found["time"])], path, timezone, dates=dates).alias("time"),
        *(pl.col(str(found[key])).cast(pl.Float64, strict=False).alias(key) for key in numbers),
        pl.struct(pl.all()).alias(RAW),
        _unreadable(table, str(found["time"]), [str(found[key]) for key in numbers]).alias(CODE),
    )
    bad_time = pl.col("time").is_null() & pl.Series(table[str(found["time"])].is_not_null())
    picked = picked.with_columns(pl.when(bad_time).then(pl.lit("bad_timestamp")).otherwise(pl.col(CODE)).alias(CODE))
    return picked if "volume" in picked.columns else picked.with_columns(pl.lit(0.0).alias("volume"))


def _read(path: Path) -> pl.DataFrame:
    if path.suffix in {".parquet", ".pq"}:
        return pl.read_parquet(path)
    if path.name.endswith((".csv", ".csv.gz", ".txt")):
        return pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True)
    raise FileError(f"expected a name that ends in .parquet, .csv or .csv.gz, got {path.name}")


def _unreadable(table: pl.DataFrame, time: str, numbers: Sequence[str]) -> pl.Expr:
    """Return ``wrong_type`` where text in a number's place is none."""
    texts = [name for name in numbers if table.schema[name] == pl.String and name != time]
    if not texts:
        return pl.lit(None, pl.String)
    failed = [
        (pl.col(name).str.strip_chars() != "") & pl.col(name).cast(pl.Float64, strict=False).is_null() for name in texts
    ]
    return pl.when(pl.any_horizontal(failed)).then(pl.lit("wrong_type"))


def _instants(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    """Return times as UTC microseconds; null where one cannot be read."""
    if times.dtype.is_integer():
        return _numbers(times.cast(pl.Int64), path, timezone, dates=dates)
    if times.dtype == pl.String:
        return _parsed(times, path, timezone, dates=dates)
    if times.dtype == pl.Date:
        return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(times.dtype, pl.Datetime):
        zoned = times if times.dtype.time_zone is not None else _in_zone(times, path, timezone, dates=dates)
        return zoned.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    raise FileError(f"expected times, dates, ISO 8601 text or epoch numbers in {times.name!r}, got {times.dtype}")


def _numbers(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    present = times.drop_nulls()
    if present.is_empty() or not present.is_between(*_WRITTEN_DATES).all():
        return _epochs(times)
    days = times.cast(pl.String).str.to_date("%Y%m%d", strict=False).cast(pl.Datetime("us"))
    return _in_zone(days, path, timezone, dates=dates).dt.convert_time_zone("UTC")


def _epochs(times: pl.Series) -> pl.Series:
    value = times.alias("t").to_frame()
    unit = pl.when(pl.col("t").abs() < _EPOCH_UNITS[0][0]).then(pl.col("t") * _EPOCH_UNITS[0][1])
    for limit, factor in _EPOCH_UNITS[1:]:
        unit = unit.when(pl.col("t").abs() < limit).then(pl.col("t") * factor)
    return value.select(unit.otherwise(pl.col("t") // 1_000)).to_series().cast(UTC_MICROSECONDS)


def _parsed(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    text = times.str.strip_chars()
    numeric = text.cast(pl.Int64, strict=False)
    if numeric.null_count() == text.null_count() and len(text) > text.null_count():
        return _numbers(numeric, path, timezone, dates=dates)
    has_zone = text.str.contains(r"(?:Z|[+-]\d\d:?\d\d)$")
    zoned = text.set(~has_zone.fill_null(value=False), None).str.to_datetime(
        time_unit="us", time_zone="UTC", strict=False
    )
    if has_zone.drop_nulls().all():
        return zoned
    plain = text.set(has_zone.fill_null(value=False), None).str.replace("T", " ", literal=True)
    moments = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    minutes = plain.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False)
    days = plain.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    naive = moments.to_frame("m").with_columns(minutes.alias("n"), days.alias("d")).select(pl.coalesce("m", "n", "d"))
    local = naive.to_series()
    if local.null_count() == len(local):
        return zoned
    filled = _in_zone(local, path, timezone, dates=dates).dt.convert_time_zone("UTC")
    return zoned.to_frame("z").with_columns(filled.alias("f")).select(pl.coalesce("z", "f")).to_series()


def _in_zone(times: pl.Series, path: Path, timezone: str | None, *, dates: bool) -> pl.Series:
    midnights = bool((times.drop_nulls().dt.time() == pl.Series([0]).cast(pl.Time)[0]).all())
    if timezone is None and dates and midnights:
        return times.dt.replace_time_zone("UTC")
    if timezone is None:
        raise FileError(
            f"expected times with a time zone, {path.name} has none, such as {times.drop_nulls()[0]}: name the zone of "
            "the file, for example America/New_York"
        )
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise FileError(f"expected a time zone such as America/New_York, got {timezone!r}") from error
    # The hour that happens twice in autumn is read as the first one; the hour that does not exist has no instant.
    return times.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
