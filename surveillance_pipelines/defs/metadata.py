"""Metadata of materializations: row counts, table schemas, date ranges and plots."""

import base64
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from surveillance_pipelines.defs.columns import MEANINGS

if TYPE_CHECKING:
    from datetime import date

    import polars as pl
    import psycopg

MAX_PLOT_BYTES = 150_000
"""Maximum size of a plot. Plots are stored in the event log, and a page of the UI loads all of them."""


def frame_metadata(
    frame: "pl.DataFrame", *, version: int | None = None, meanings: Mapping[str, str] = MEANINGS
) -> dict[str, Any]:
    """Return row count, column schema, range of days, symbols and Delta version of a frame."""
    days, symbols = (frame[name].unique() if name in frame.columns else () for name in ("date", "symbol"))
    return rows_metadata(
        frame.height, frame.schema, days=list(days), symbols=list(symbols), version=version, meanings=meanings
    )


def rows_metadata(
    rows: int,
    schema: "pl.Schema",
    *,
    days: "Collection[date]" = (),
    symbols: Collection[str] = (),
    version: int | None = None,
    meanings: Mapping[str, str] = MEANINGS,
) -> dict[str, Any]:
    """Return the metadata of ``frame_metadata`` for rows that are no longer in memory."""
    metadata: dict[str, Any] = {"dagster/row_count": rows, "dagster/column_schema": column_schema(schema, meanings)}
    if days:
        metadata |= {"days": len(days), "first_day": str(min(days)), "last_day": str(max(days))}
    if symbols:
        metadata["symbols"] = ", ".join(sorted(symbols))
    if version is not None:
        metadata["delta_version"] = version
    return metadata


def column_schema(schema: "pl.Schema", meanings: Mapping[str, str] = MEANINGS) -> dg.TableSchema:
    """Return a frame's schema for the UI, with the descriptions of its columns."""
    descriptions = {**MEANINGS, **meanings}
    columns = [
        dg.TableColumn(name, str(dtype), description=descriptions.get(name, "")) for name, dtype in schema.items()
    ]
    return dg.TableSchema(columns=columns)


def stored_schema(
    connection: "psycopg.Connection[Any]", table: str, meanings: Mapping[str, str] = MEANINGS
) -> dg.TableSchema:
    """Return the schema of a table in the PostgreSQL schema ``surveillance``, with the descriptions of its columns."""
    descriptions = {**MEANINGS, **meanings}
    found = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'surveillance' AND table_name = %s ORDER BY ordinal_position",
        (table,),
    )
    columns = [dg.TableColumn(name, kind, description=descriptions.get(name, "")) for name, kind in found]
    return dg.TableSchema(columns=columns)


def counts_table(rows: Sequence[Mapping[str, str | int | float | bool | None]]) -> dg.TableMetadataValue:
    """Return a small table of counts for the UI."""
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows])


def value_counts(name: str, values: Sequence[str] | Counter[str]) -> dict[str, dg.TableMetadataValue]:
    """Return one metadata entry with value counts, most frequent first, or no entry without values."""
    rows = [{"value": value, "count": count} for value, count in Counter(values).most_common()]
    return {name: counts_table(rows)} if rows else {}


def inline_image(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """Return a PNG as an inline image, or a note if it is too large for the event log."""
    if len(png) > MAX_PLOT_BYTES:
        return dg.MetadataValue.md(f"{title}: omitted, {len(png):,} bytes are too large for the event log")
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def inline_plot(draw: Callable[[], bytes], title: str) -> dg.MarkdownMetadataValue:
    """Draw a plot and return it as an inline image, or a note if the plotting libraries are not installed."""
    try:
        return inline_image(draw(), title)
    except ImportError as error:
        return dg.MetadataValue.md(f"{title}: omitted, the extra `train` is not installed ({error})")
