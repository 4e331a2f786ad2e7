"""What of received bars differs from the bars that landed before."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

PREDECESSOR: Final = "predecessor_known_at"
"""Column with the knowledge time of the version that a bar corrects; null if it corrects none."""


def changed_bars(landed: "pl.DataFrame", bars: "pl.DataFrame", now_us: int) -> "pl.DataFrame":
    """Return the bars that differ from the newest landed version, with the knowledge time of that version.

    The first version keeps the knowledge time of its source. A correction is known from its landing on, and later than
    the version that it corrects, so that knowledge times have the order of the landings, independent of clocks.
    """
    import polars as pl

    from surveillance_pipelines.contracts.frames import UTC_MICROSECONDS
    from surveillance_pipelines.market.bar_frames import BAR_KEY
    from surveillance_pipelines.market.source_resolution import without_repeats

    key = [*BAR_KEY, "source"]
    newest = landed.group_by(key).agg(pl.col("knowledge_time").max().alias(PREDECESSOR))
    changed = without_repeats(bars, landed).join(newest, on=key, how="left", maintain_order="left")
    landing_at = pl.lit(now_us).cast(UTC_MICROSECONDS)
    corrected = pl.max_horizontal("knowledge_time", landing_at, pl.col(PREDECESSOR) + pl.duration(microseconds=1))
    known = pl.when(pl.col(PREDECESSOR).is_null()).then("knowledge_time").otherwise(corrected)
    return changed.with_columns(known.alias("knowledge_time"))
