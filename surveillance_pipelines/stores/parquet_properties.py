"""Properties of the Parquet files that a write of the lake creates."""

from typing import Final

import polars as pl
from deltalake import ColumnProperties, WriterProperties

from surveillance_pipelines.stores.lake_scan import PARTITION

DICTIONARY_DAYS: Final = 256
DICTIONARY_ROWS_PER_DAY: Final = 2_000
"""A write of more days than the first, with fewer rows per day than the second, has files without dictionaries.
delta-rs keeps the file of every day open until the commit, and its dictionaries take memory whatever its rows; that
adds up for 20 years of daily bars. Other writes keep dictionaries, which save space where a day has many rows."""


def writer_properties(frame: pl.DataFrame) -> WriterProperties:
    """Return the properties of the files of a write: the defaults of delta-rs, or no dictionaries."""
    days = frame[PARTITION].n_unique()
    if days <= DICTIONARY_DAYS or frame.height >= days * DICTIONARY_ROWS_PER_DAY:
        return WriterProperties()
    return WriterProperties(default_column_properties=ColumnProperties(dictionary_enabled=False))
