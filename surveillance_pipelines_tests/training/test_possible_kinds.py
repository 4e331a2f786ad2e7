import polars as pl
import pytest

from surveillance_pipelines.training.possible_kinds import (
    VOLUME_KINDS,
    bars_with_peers,
    impossible_kinds,
    possible_kinds,
    silent_symbols,
)
from surveillance_pipelines_tests.training.tiny_bundle import tiny_market


def bars_of(*symbols: str) -> pl.DataFrame:
    return tiny_market()[0].filter(pl.col("symbol").is_in(symbols))


def test_impossible_kinds_of_several_symbols_with_volume_are_none():
    assert impossible_kinds(tiny_market()[0]) == {}


def test_impossible_kinds_of_one_symbol_are_those_relative_to_others():
    found = impossible_kinds(bars_of("AAPL"))
    assert found == {
        "cross_symbol_divergence": "needs another symbol in the same minutes, the bars have one symbol",
    }
    assert len(possible_kinds(found)) == 8


@pytest.mark.parametrize(("shared", "share"), [(40, "1.7%"), (0, "0.0%")])
def test_impossible_kinds_of_symbols_with_few_common_minutes_name_the_share(shared, share):
    apple, other = bars_of("AAPL"), bars_of("MSFT")
    common = other.head(shared + 1)  # the first bar of a symbol has no return
    rest = other.slice(shared + 1).with_columns(pl.col("bar_start") + pl.duration(hours=12))
    bars = pl.concat([apple, common, rest])
    assert impossible_kinds(bars)["cross_symbol_divergence"].endswith(f"{share} of the bars have one")


def test_impossible_kinds_of_bars_without_volume_are_those_of_volume():
    silent = tiny_market()[0].with_columns(volume=pl.lit(0.0))
    assert set(impossible_kinds(silent)) == set(VOLUME_KINDS)
    assert silent_symbols(silent) == ["AAPL", "MSFT", "SPY"]


def test_impossible_kinds_if_one_symbol_has_volume_are_none():
    mixed = tiny_market()[0].with_columns(volume=pl.when(pl.col("symbol") == "AAPL").then("volume").otherwise(0.0))
    assert impossible_kinds(mixed) == {}
    assert silent_symbols(mixed) == ["MSFT", "SPY"]


def test_bars_with_peers_ignore_the_first_bar_of_a_peer():
    apple, other = bars_of("AAPL").head(3), bars_of("MSFT").slice(1, 1)
    assert bars_with_peers(pl.concat([apple, other])).rows() == [("MSFT", other["bar_start"][0])]
