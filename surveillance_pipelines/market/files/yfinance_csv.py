"""CSV files that ``yfinance.download(...).to_csv()`` writes: three lines of headers, and columns for each symbol."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from surveillance_pipelines.market.files.layouts import Layout, normal_name

LAYOUT: Final = Layout(name="yfinance download: columns for each symbol")
_HEADERS: Final = 3
_LEVELS: Final = {"price", "ticker"}


def is_wide(head: Sequence[Sequence[str]]) -> bool:
    """Return whether the first lines name the price and the symbol of each column."""
    if len(head) < _HEADERS:
        return False
    first, second, third = (normal_name(line[0]) for line in head[:_HEADERS])
    return {first, second} == _LEVELS and third in {"date", "datetime"}


def long_rows(frame: pl.DataFrame) -> tuple[list[str], pl.DataFrame]:
    """Return the names of columns, and a row for each symbol and line that has a value.

    Args:
        frame: ``line`` and ``fields`` of the whole file.
    """
    levels = {normal_name(fields[0]): fields[1:] for fields in frame["fields"].head(_HEADERS - 1).to_list()}
    kinds, symbols = levels["price"], levels["ticker"]
    wanted = list(dict.fromkeys(kinds))
    data, blocks = frame.slice(_HEADERS), []
    for symbol in dict.fromkeys(symbols):
        places = {kind: place for place, (kind, of) in enumerate(zip(kinds, symbols, strict=True)) if of == symbol}
        values = [
            pl.col("fields").list.get(places[kind] + 1, null_on_oob=True) if kind in places else pl.lit("")
            for kind in wanted
        ]
        fields = pl.concat_list(pl.col("fields").list.get(0), pl.lit(symbol), *values)
        block = data.select("line", fields=fields)
        blocks.append(block.filter(pl.col("fields").list.slice(2).list.eval(pl.element() != "").list.any()))
    return ["time", "symbol", *wanted], pl.concat(blocks).sort("line", maintain_order=True)
