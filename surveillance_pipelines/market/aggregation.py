"""Aggregation of ticks to 1-minute bars, and of 1-minute bars to longer ones. docs/market-data.md states the rules."""

from typing import Final

import numpy as np
import polars as pl

from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
from surveillance_pipelines.contracts.market import SOURCE_PRECEDENCE, TIMEFRAME_MINUTES, Timeframe
from surveillance_pipelines.contracts.sessions import SessionTable
from surveillance_pipelines.market.bar_frames import empty_bars, to_bar_schema

_MINUTE_US: Final = 60_000_000
_MINUTE_KEY: Final = ("symbol", "source", "bar_start")


def bars_from_ticks(ticks: pl.DataFrame, *, batch_id: str = "ticks") -> pl.DataFrame:
    """Return the 1-minute bars of ticks, with a revision for every late tick.

    Within a minute, ticks are ordered by event time; ticks with equal event times keep the order of the rows, which is
    the order of receipt. Ticks whose ``outcome`` is not ``late`` form revision 0. Revision n consists of these and the
    first n late ticks. A minute with only late ticks has no revision 0.

    Args:
        ticks: ``TICK_SCHEMA``, in the order of receipt.
        batch_id: id of the write that adds the bars.

    Returns:
        ``BAR_SCHEMA``, one source per bar, sorted by symbol, start and revision.
    """
    if ticks.is_empty():
        return empty_bars()
    placed = ticks.with_row_index("row").with_columns(
        pl.col("event_time").dt.truncate("1m").alias("bar_start"),
        late=pl.col("outcome").eq_missing("late"),
    )
    ranked = placed.with_columns(since=pl.col("late").cast(pl.Int32).cum_sum().over(_MINUTE_KEY))
    on_time = ranked.filter(~pl.col("late")).with_columns(revision=pl.lit(0, pl.Int32))
    bars = _summarise(pl.concat([on_time, _revised(ranked)]))
    constants = {"timeframe": "1m", "adjustment": "none", "batch_id": batch_id}
    return to_bar_schema(
        bars.with_columns(
            pl.col("bar_start").dt.date().alias("date"),
            **{name: pl.lit(value) for name, value in constants.items()},
            bar_status=pl.when(pl.col("revision") == 0).then(pl.lit("final")).otherwise(pl.lit("revised")),
            market_return=pl.lit(None),
            market_peers=pl.lit(None),
            market_centre=pl.lit(None),
        )
    ).sort("symbol", "bar_start", "source", "revision")


def very_late_revisions(ticks: pl.DataFrame, live: pl.DataFrame) -> pl.DataFrame:
    """Return the revisions due to late ticks whose bar was no longer in the live lane's memory.

    The live lane also numbers revisions by late tick, so its own revisions are kept and these continue the numbering.

    Args:
        ticks: ``TICK_SCHEMA``, in the order of receipt; volumes are sizes.
        live: ``BAR_SCHEMA``, bars of the live lane.
    """
    late = ticks.filter(pl.col("outcome").eq_missing("late"))
    minutes = late.select("symbol", pl.col("event_time").dt.truncate("1m").alias("bar_start")).unique()
    placed = ticks.with_columns(bar_start=pl.col("event_time").dt.truncate("1m"))
    members = placed.join(minutes, on=["symbol", "bar_start"], how="semi", maintain_order="left")
    revisions = bars_from_ticks(members.select(ticks.columns)).filter(pl.col("revision") > 0)
    return revisions.join(live, on=["symbol", "bar_start", "revision"], how="anti", maintain_order="left")


def _revised(ranked: pl.DataFrame) -> pl.DataFrame:
    """Return, for each late tick, the ticks of the revision that it creates."""
    revisions = ranked.filter("late").select(*_MINUTE_KEY, revision=pl.col("since"))
    members = ranked.join(revisions, on=_MINUTE_KEY, how="inner", maintain_order="left")
    return members.filter(~pl.col("late") | (pl.col("since") <= pl.col("revision")))


def _summarise(members: pl.DataFrame) -> pl.DataFrame:
    ordered = members.sort("event_time", "row")
    received_last = pl.col("source_message_id").sort_by("row").last()
    return ordered.group_by(*_MINUTE_KEY, "revision", maintain_order=True).agg(
        open=pl.col("price").first(),
        high=pl.col("price").max(),
        low=pl.col("price").min(),
        close=pl.col("price").last(),
        volume=pl.col("volume").sum(),
        trades=pl.len(),
        event_time=pl.col("event_time").max(),
        knowledge_time=pl.col("knowledge_time").max(),
        source_message_id=received_last,
    )


def resample(bars_1m: pl.DataFrame, timeframe: Timeframe, sessions: SessionTable) -> pl.DataFrame:
    """Return longer bars aggregated from the revision-0 1-minute bars.

    Intraday bars are anchored to the session: minutes before and within it are counted from its opening, minutes after
    it from its close, and no bar crosses an opening or a close. A ``1d`` bar is one session, named by its opening,
    without pre-market and post-market. A bar of several sources has the source of lowest precedence.

    Args:
        bars_1m: ``BAR_SCHEMA``; revisions other than 0 are ignored, because features do not use them.
        timeframe: longer than ``1m``.
        sessions: covering the bars; each symbol's own calendar is used.

    Raises:
        ValueError: for ``1m``.
    """
    if timeframe == "1m":
        raise ValueError("expected a timeframe longer than 1m, got 1m: the input already has those bars")
    first_known = bars_1m.filter((pl.col("timeframe") == "1m") & (pl.col("revision") == 0))
    if first_known.is_empty():
        return empty_bars()
    placed = [
        _placed(part, timeframe, sessions.for_symbol(str(symbol)))
        for (symbol,), part in first_known.partition_by("symbol", as_dict=True).items()
    ]
    return _merge(pl.concat(placed), timeframe)


def _placed(bars: pl.DataFrame, timeframe: Timeframe, table: SessionTable) -> pl.DataFrame:
    """Return one symbol's bars with the start of the longer bar that contains each; for 1d, only bars in a session."""
    starts = bars["bar_start"].dt.timestamp("us").to_numpy()
    row = table.rows_of(starts)
    opens, closes = table.opens_at[row], table.closes_at[row]
    if timeframe == "1d":
        held = (starts >= opens) & (starts < closes)
        return bars.with_columns(longer=pl.Series(opens)).filter(pl.Series(held))
    width = TIMEFRAME_MINUTES[timeframe] * _MINUTE_US
    anchors = np.where(starts < closes, opens, closes)
    return bars.with_columns(longer=pl.Series(anchors + (starts - anchors) // width * width))


def _merge(placed: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    rank = pl.col("source").replace_strict({name: place for place, name in enumerate(SOURCE_PRECEDENCE)})
    merged = (
        placed.sort("symbol", "bar_start")
        .group_by("symbol", "longer", maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            # If any bar has no count of trades, the sum would be wrong.
            trades=pl.when(pl.col("trades").is_not_null().all()).then(pl.col("trades").sum()),
            source=pl.col("source").sort_by(rank).last(),
            adjustment=pl.col("adjustment").last(),
            event_time=pl.col("event_time").max(),
            knowledge_time=pl.col("knowledge_time").max(),
            source_message_id=pl.col("source_message_id").last(),
            batch_id=pl.col("batch_id").last(),
        )
        .with_columns(bar_start=pl.col("longer").cast(UTC_MICROSECONDS))
    )
    return to_bar_schema(
        merged.with_columns(
            pl.col("bar_start").dt.date().alias("date"),
            timeframe=pl.lit(timeframe),
            revision=pl.lit(0),
            bar_status=pl.lit("final"),
            market_return=pl.lit(None),
            market_peers=pl.lit(None),
            market_centre=pl.lit(None),
        )
    )
