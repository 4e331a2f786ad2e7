"""Times of a file's column, converted to UTC. Format, unit and order of day and month are judged for the whole column.

Supported are ISO 8601 in its extended and basic forms, dates with dashes, slashes or dots, names of months, a clock
with 12 or 24 hours, fractions of a second, offsets (``Z``, ``+00``, ``-05:00``, ``GMT+0100``) and zones
(``US/Eastern``, ``EST``) of the value or of the column, times written as digits, and epochs in seconds to nanoseconds.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import DateOrder, EpochUnit
from surveillance_pipelines.market.instants import parse_instant
from surveillance_pipelines.market.local_times import RowSymbols, localised, no_reasons, with_value

Lacking = Literal["timezone", "date_order", "unit"]

REMEDIES: Final[dict[Lacking, str]] = {
    "timezone": "`--tz America/New_York`, the time zone in which the times are written",
    "date_order": "`--date-order dmy` for 31/12/2024, `--date-order mdy` for 12/31/2024",
    "unit": f"`--unit {' or '.join(get_args(EpochUnit))}`",
}
"""Missing fact about a column → the option that supplies it."""

_NAIVE: Final = pl.Datetime("us")
_FACTORS: Final[dict[EpochUnit, int]] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds of each unit."""
_EPOCH_SECONDS: Final = (157_766_400, 4_102_444_800)
"""1975 to 2100. Within these years, the numbers of two units never overlap."""
_DIGITS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Length of a time written as digits → its format, for the years from 1900 to 2100."""
_NUMBER: Final = r"^[+-]?\d+(?:\.\d*)?$"
_EXAMPLE: Final = "2024-03-06T14:30:00Z"
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SHORT_ZONES: Final = {"EST": "-05:00", "EDT": "-04:00"}
"""Zone names of which only one meaning is in use; ``CST`` is in Chicago and in Shanghai."""
_LONGEST_OFFSET_HOURS: Final = 14

_DATE: Final = (
    r"(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"
    r"|(?P<cy>\d{4})(?P<cm>\d\d)(?P<cd>\d\d)"
    r"|(?P<a>\d{1,2})(?P<sep>[-/.])(?P<b>\d{1,2})[-/.](?P<ly>\d{4}|\d\d)"
    r"|(?P<dd>\d{1,2})[- ](?P<dn>[A-Za-z]{3,9})[- ,]+(?P<dy>\d{4})"
    r"|(?P<nn>[A-Za-z]{3,9}) (?P<nd>\d{1,2}),? +(?P<ny>\d{4}))"
)
_CLOCK: Final = (
    r"(?:(?:[Tt]| *[,;] *| +)"
    r"(?:(?P<H>\d{1,2}):(?P<M>\d\d)(?::(?P<S>\d\d)(?:[.,](?P<F>\d{1,9}))?)?(?: *(?P<half>[AaPp])\.?[Mm]\b\.?)?"
    r"|(?P<CH>\d\d)(?P<CM>\d\d)(?:(?P<CS>\d\d)(?:\.(?P<CF>\d{1,9}))?)?))?"
)
_ZONE: Final = r" *(?P<zone>[Zz]|(?:UTC|GMT)?[+-]\d\d(?::?\d\d)?|[A-Z]{3,4}|[A-Za-z]+(?:/[A-Za-z_]+)+)?"
_PATTERN: Final = f"^{_DATE}{_CLOCK}{_ZONE}$"
_OFFSET: Final = r"^(?:UTC|GMT)?([+-])(\d\d):?(\d\d)?$"


class TimeFormatError(InvalidInputError):
    """The times of a column cannot be read without a fact that the column does not state.

    Attributes:
        lacks: the missing fact; None if no option supplies it.
    """

    def __init__(self, message: str, *, lacks: Lacking | None = None) -> None:
        super().__init__(message, remedy=REMEDIES[lacks] if lacks else "")
        self.lacks: Lacking | None = lacks


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOptions:
    """Facts about a column of times that its values may not state.

    Attributes:
        timezone: zone of times without one, such as ``America/New_York``.
        unit: unit of epochs; None judges it from their size, which is unambiguous from 1975 to 2100.
        date_order: order of day and month in dates such as 03/04/2024.
        allows_dates: whether times at midnight without a zone are dates, which need no zone.
    """

    timezone: str | None = None
    unit: EpochUnit | None = None
    date_order: DateOrder | None = None
    allows_dates: bool = False


@dataclass(frozen=True, slots=True)
class ParsedTimes:
    """A column of times.

    Attributes:
        instants: UTC in microseconds; null where a value is absent or cannot be read.
        written: date and clock as written, in the zone of each value; null where ``instants`` is.
        reasons: why a value cannot be read; null elsewhere.
        form: how the column was read, for people.
        has_clock: whether any value has a clock time, midnight included, or is an instant.
    """

    instants: pl.Series
    written: pl.Series
    reasons: pl.Series
    form: str
    has_clock: bool = True


def parse_times(
    values: pl.Series, options: TimeOptions, *, series: pl.Series | None = None, has_repeats: bool = True
) -> ParsedTimes:
    """Convert a column of text, numbers, dates or datetimes.

    Args:
        values: the column.
        options: facts that the values may not state.
        series: the symbol of each row; tells apart the two passes of the hour that a clock change repeats, because each
            symbol's rows are in order. None means one symbol.
        has_repeats: whether several rows of a symbol may have the same time, as trades may and bars may not.

    Raises:
        TimeFormatError: if a fact is missing: the time zone, the order of day and month, or a plausible unit.
    """
    if options.timezone is not None:
        _require_zone(options.timezone)
    names = pl.Series("series", [""], dtype=pl.String).new_from_index(0, len(values)) if series is None else series
    symbols = RowSymbols(names, has_repeats)
    if values.dtype.is_integer() or values.dtype.is_float() or values.dtype.is_decimal():
        return _numbers(values.cast(pl.String), options, symbols)
    if values.dtype == pl.String:
        text = values.str.strip_chars().replace("", None)
        present = text.drop_nulls()
        numeric = present.str.contains(_NUMBER).sum()
        is_numeric = len(present) > 0 and numeric * 2 > len(present)
        return _numbers(text, options, symbols) if is_numeric else _texts(text, options, symbols)
    if values.dtype == pl.Date:
        return _local(values.cast(_NAIVE), options, symbols, form="dates", has_clock=False)
    if isinstance(values.dtype, pl.Datetime):
        exact = values.dt.cast_time_unit("us")
        if values.dtype.time_zone is None:
            return _local(exact, options, symbols, form="times")
        instants, written = exact.dt.convert_time_zone("UTC"), exact.dt.replace_time_zone(None)
        return ParsedTimes(instants, written, no_reasons(values), f"times in {values.dtype.time_zone}")
    raise TimeFormatError(f"expected times, dates, text or epoch numbers in {values.name!r}, got {values.dtype}")


def exchange_dates(times: ParsedTimes, timezone: str | None) -> pl.Series | None:
    """Return the dates of daily bars at midnight UTC; None if the times do not tell the dates.

    A bar written at midnight, in whatever zone, means that date. In ``timezone``, a bar means the date of that zone.
    """
    if _are_midnights(times.written):
        return times.written.dt.replace_time_zone("UTC")
    if timezone is None:
        return None
    return times.instants.dt.convert_time_zone(timezone).dt.date().cast(_NAIVE).dt.replace_time_zone("UTC")


def _numbers(text: pl.Series, options: TimeOptions, symbols: RowSymbols) -> ParsedTimes:
    whole = text.str.contains(r"^\d+$").fill_null(value=False)
    digits = _written_digits(text.filter(whole)) if options.unit is None else None
    if digits is not None:
        written = text.set(~whole, None).str.to_datetime(_DIGITS[digits], time_unit="us", strict=False, exact=True)
        return _local(
            written, options, symbols, form=f"times written as {digits} digits", text=text, has_clock=digits > 8
        )
    number = text.str.contains(_NUMBER).fill_null(value=False)
    readable = text.set(~number, None)
    unit = options.unit or _unit(readable)
    factor = _FACTORS[unit]
    parts = readable.str.split_exact(".", 1).struct.unnest()
    fraction = parts.select(pl.concat_str(pl.lit("0."), pl.col("field_1").fill_null("0")).alias("f"))["f"]
    frame = pl.DataFrame(
        {"w": parts["field_0"].cast(pl.Int64, strict=False), "f": fraction.cast(pl.Float64, strict=False)}
    )
    low, high = (bound * _FACTORS["s"] // factor for bound in _EPOCH_SECONDS)
    first = low if options.unit is None else 0
    # Up to the year 2100, nanoseconds fit into 64 bits.
    nanoseconds = pl.col("w") * factor + (pl.col("f") * factor).round().cast(pl.Int64)
    inside = pl.col("w").is_between(first, high)
    instants = frame.select(pl.when(inside).then(nanoseconds // 1_000).cast(UTC_MICROSECONDS))
    found = instants.to_series()
    reasons = _reasons(text, found, f"expected an epoch in {unit} from 1975 to 2100, got '{{}}'")
    return ParsedTimes(found, found.dt.replace_time_zone(None), reasons, f"epochs in {unit}")


def _written_digits(values: pl.Series) -> int | None:
    """Return the number of digits if all values are dates or times written as so many digits."""
    lengths = values.str.len_chars().unique()
    if len(lengths) != 1 or lengths[0] not in _DIGITS:
        return None
    digits = int(lengths[0])
    plausible = values.str.contains(r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
    clocks = values.str.slice(8).str.contains(r"^(?:[01]\d|2[0-3])(?:[0-5]\d){1,2}$") if digits > 8 else plausible
    return digits if bool((plausible & clocks).all()) else None


def _unit(numbers: pl.Series) -> EpochUnit:
    """Return the unit in which the middle number is in the years from 1975 to 2100.

    Raises:
        TimeFormatError: if there is none.
    """
    middle = numbers.cast(pl.Float64, strict=False).drop_nulls().quantile(0.5, interpolation="lower")
    for unit, factor in _FACTORS.items():
        per_second = _FACTORS["s"] // factor
        if middle is not None and _EPOCH_SECONDS[0] * per_second <= middle <= _EPOCH_SECONDS[1] * per_second:
            return unit
    raise TimeFormatError(
        f"expected epochs from 1975 to 2100 in {numbers.name!r}, got numbers such as {numbers.drop_nulls()[0]}",
        lacks="unit",
    )


def _texts(text: pl.Series, options: TimeOptions, symbols: RowSymbols) -> ParsedTimes:
    if text.null_count() == len(text):
        empty = pl.Series(text.name, [None], dtype=UTC_MICROSECONDS).new_from_index(0, len(text))
        return ParsedTimes(empty, empty.dt.replace_time_zone(None), no_reasons(text), "no times")
    parts = text.str.extract_groups(_PATTERN).struct.unnest()
    order, note = _date_order(parts, options, text)
    fields = parts.select(
        year=_year(),
        month=_coalesced("m", "cm", _month("dn"), _month("nn"), "b" if order == "dmy" else "a"),
        day=_coalesced("d", "cd", "dd", "nd", "a" if order == "dmy" else "b"),
        hour=_hour(),
        minute=_coalesced("M", "CM", pl.lit("00")),
        second=_coalesced("S", "CS", pl.lit("00")),
        fraction=pl.coalesce("F", "CF", pl.lit("0")).str.pad_end(6, "0").str.slice(0, 6),
        zone=pl.col("zone"),
        clock=pl.coalesce("H", "CH").is_not_null(),
    )
    stamp = pl.format(
        "{}-{}-{} {}:{}:{}", *(pl.col(name) for name in ("year", "month", "day", "hour", "minute", "second"))
    )
    written = fields.select(
        stamp.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
        + pl.duration(microseconds=pl.col("fraction").cast(pl.Int64))
    ).to_series()
    has_clock = bool(fields["clock"].any())
    zone = fields["zone"]
    if (others := _other_instants(text, written)) is not None:
        # Forms of ISO 8601 that the queue accepts too, such as dates with the number of the week.
        written, zone = written.zip_with(others.is_null(), others), zone.set(others.is_not_null(), "Z")
    if zone.null_count() == len(zone):
        form = "times without a zone" if has_clock else "dates"
        return _local(written, options, symbols, form=form + note, text=text, has_clock=has_clock)
    return _zoned(written, zone, options, symbols, text=text, form=note)


def _other_instants(text: pl.Series, written: pl.Series) -> pl.Series | None:
    """Return the UTC clock of values that only ``parse_instant`` reads; None if there are none."""
    found: dict[str, int] = {}
    for value in text.filter(text.is_not_null() & written.is_null()).unique():
        with suppress(ValueError, OverflowError):
            found[value] = parse_instant(value)
    if not found:
        return None
    return text.replace_strict(found, default=None, return_dtype=pl.Int64).cast(_NAIVE)


def _date_order(parts: pl.DataFrame, options: TimeOptions, text: pl.Series) -> tuple[DateOrder, str]:
    """Return the order of day and month of dates that begin with neither the year nor a name, and a note."""
    short = parts.filter(pl.col("a").is_not_null())
    if short.is_empty():
        return "dmy", ""
    if options.date_order is not None:
        return options.date_order, f", {options.date_order}"
    if bool((short["sep"] == ".").all()):
        return "dmy", ", day first because of the dots"
    first, second = (short[name].cast(pl.Int64) > 12 for name in ("a", "b"))
    if first.any() and not second.any():
        return "dmy", ", day first: some first numbers exceed 12"
    if second.any() and not first.any():
        return "mdy", ", month first: some second numbers exceed 12"
    found = "numbers above 12 in both places" if first.any() else "no number above 12"
    raise TimeFormatError(
        f"expected dates that show the order of day and month, {text.name!r} has {found}, such as "
        f"{text.drop_nulls()[0]}",
        lacks="date_order",
    )


def _zoned(
    written: pl.Series, zone: pl.Series, options: TimeOptions, symbols: RowSymbols, *, text: pl.Series, form: str
) -> ParsedTimes:
    """Convert times of which some or all state their zone."""
    frame = pl.DataFrame({"written": written, "zone": zone, "symbol": symbols.names}).with_columns(
        pl.col("zone").replace({"Z": "+00", "z": "+00", "UTC": "+00", "GMT": "+00", **_SHORT_ZONES})
    )
    offset = frame["zone"].str.extract_groups(_OFFSET).struct.unnest()
    hours, minutes = (offset[name].cast(pl.Int64) for name in ("2", "3"))
    ahead = pl.when(pl.col("h") <= _LONGEST_OFFSET_HOURS).then(pl.col("h") * 60 + pl.col("m"))
    signed = pl.when(pl.col("sign") == "-").then(-ahead).otherwise(ahead)
    instants = (
        frame.with_columns(offset["1"].alias("sign"), hours.alias("h"), minutes.fill_null(0).alias("m"))
        .select((pl.col("written") - pl.duration(minutes=signed)).dt.replace_time_zone("UTC").alias("instant"))
        .to_series()
    )
    reasons = no_reasons(text)
    names = [name for name in frame["zone"].unique().drop_nulls().to_list() if not _is_offset(name)]
    known = [name for name in names if _is_zone(name)]
    for name in [*known, *([options.timezone] if options.timezone else [])]:
        mine = (frame["zone"] == name).fill_null(value=False) if name in known else frame["zone"].is_null()
        local = localised(written.set(~mine, None), name, symbols)
        instants = instants.zip_with(~mine, local[0])
        reasons = reasons.zip_with(~mine, local[1])
    missing = instants.is_null() & text.is_not_null() & reasons.is_null()
    without = missing & frame["zone"].is_null() & written.is_not_null()
    reasons = reasons.zip_with(
        ~without, with_value(text, f"expected a time zone, as the other values of {text.name} have, got '{{}}'")
    )
    reasons = reasons.zip_with(reasons.is_not_null() | ~missing, _reasons(text, instants, _expected(text.name)))
    shown = ", ".join(sorted(known)) if known else "offsets"
    return ParsedTimes(instants, written.set(instants.is_null(), None), reasons, f"times with {shown}{form}")


def _local(
    written: pl.Series,
    options: TimeOptions,
    symbols: RowSymbols,
    *,
    form: str,
    text: pl.Series | None = None,
    has_clock: bool = True,
) -> ParsedTimes:
    """Convert times that state no zone."""
    shown = written.dt.to_string("%Y-%m-%d %H:%M:%S") if text is None else text
    unread = _reasons(shown, written, _expected(shown.name))
    if options.timezone is None and options.allows_dates and _are_midnights(written):
        return ParsedTimes(written.dt.replace_time_zone("UTC"), written, unread, "dates", has_clock=False)
    if options.timezone is None:
        example = written.drop_nulls()
        if example.is_empty():
            nothing = written.dt.replace_time_zone("UTC")
            return ParsedTimes(nothing, written, unread, form, has_clock)
        raise TimeFormatError(
            f"expected times with a time zone in {shown.name!r}, they have none, such as {example[0]}", lacks="timezone"
        )
    instants, reasons = localised(written, options.timezone, symbols)
    reasons = unread.zip_with(reasons.is_null(), reasons)
    return ParsedTimes(
        instants, written.set(instants.is_null(), None), reasons, f"{form} in {options.timezone}", has_clock
    )


def _are_midnights(written: pl.Series) -> bool:
    present = written.drop_nulls()
    return bool((present.dt.truncate("1d") == present).all())


def _year() -> pl.Expr:
    short = pl.col("ly").str.len_chars() == 2
    century = pl.when(pl.col("ly").cast(pl.Int64, strict=False) < 70).then(pl.lit("20")).otherwise(pl.lit("19"))
    last = pl.when(short).then(pl.concat_str(century, "ly")).otherwise(pl.col("ly"))
    return pl.coalesce("y", "cy", "dy", "ny", last)


def _hour() -> pl.Expr:
    plain = pl.coalesce("H", "CH", pl.lit("0")).cast(pl.Int64)
    half = pl.col("half").str.to_lowercase()
    twelve = pl.when(plain.is_between(1, 12)).then(plain % 12 + pl.when(half == "p").then(12).otherwise(0))
    return pl.when(half.is_null()).then(plain).otherwise(twelve).cast(pl.String).str.zfill(2)


def _month(name: str) -> pl.Expr:
    short = pl.col(name).str.to_lowercase().str.slice(0, 3)
    numbers = {month: f"{number:02}" for number, month in enumerate(_MONTHS, start=1)}
    return short.replace_strict(numbers, default=None, return_dtype=pl.String)


def _coalesced(*names: str | pl.Expr) -> pl.Expr:
    return pl.coalesce(*(pl.col(name) if isinstance(name, str) else name for name in names)).str.zfill(2)


def _require_zone(name: str) -> None:
    if not _is_zone(name):
        raise TimeFormatError(f"expected a time zone such as America/New_York, got {name!r}")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _is_offset(name: str) -> bool:
    return name.removeprefix("UTC").removeprefix("GMT")[:1] in {"+", "-"}


def _expected(name: str) -> str:
    return f"expected a time such as {_EXAMPLE}, got '{{}}' for {name}"


def _reasons(text: pl.Series, found: pl.Series, reason: str) -> pl.Series:
    """Return the reason of each present value that was not found, with the value in place of ``{}``."""
    unread = text.is_not_null() & found.is_null()
    return no_reasons(text).zip_with(~unread, with_value(text, reason))
