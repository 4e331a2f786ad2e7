"""Alerts of a shadow beside those of the champion, on the same bars. No I/O."""

from dataclasses import dataclass

import polars as pl

from surveillance_pipelines.evaluation.thresholds import BARS_PER_DAY


@dataclass(frozen=True, slots=True, eq=False)
class ShadowComparison:
    """Alerts of both on the same bars.

    Attributes:
        bars: number of bars.
        both: bars on which both alert.
        only_champion: bars on which only the champion alerts.
        only_shadow: bars on which only the shadow alerts.
        disagreements: symbol, bar_start, alert_of, champion_score, shadow_score, kind; newest first.
    """

    bars: int
    both: int
    only_champion: int
    only_shadow: int
    disagreements: pl.DataFrame

    @property
    def champion_alerts_per_day(self) -> float:
        """Alerts of the champion per symbol and 390 bars; 0 without bars."""
        return self._per_day(self.both + self.only_champion)

    @property
    def shadow_alerts_per_day(self) -> float:
        """Alerts of the shadow per symbol and 390 bars; 0 without bars."""
        return self._per_day(self.both + self.only_shadow)

    @property
    def agreement(self) -> float:
        """Share of the bars with an alert of either on which both alert; 1 without alerts."""
        alerts = self.both + self.only_champion + self.only_shadow
        return self.both / alerts if alerts else 1.0

    def _per_day(self, alerts: int) -> float:
        return alerts * BARS_PER_DAY / self.bars if self.bars else 0.0


def compare_alerts(champion: pl.DataFrame, shadow: pl.DataFrame) -> ShadowComparison:
    """Compare the scores of the same bars.

    Args:
        champion: symbol, bar_start, anomaly_score, is_anomaly, kind; one row per symbol and bar.
        shadow: the same columns; bars that only one of the two has are left out.
    """
    columns = ["symbol", "bar_start", "anomaly_score", "is_anomaly", "kind"]
    joined = champion.select(columns).join(shadow.select(columns), on=["symbol", "bar_start"], suffix="_shadow")
    ours, theirs = joined["is_anomaly"], joined["is_anomaly_shadow"]
    by_shadow = pl.col("is_anomaly_shadow")
    different = joined.filter(pl.col("is_anomaly") != by_shadow).sort("bar_start", "symbol", descending=[True, False])
    return ShadowComparison(
        bars=joined.height,
        both=int((ours & theirs).sum()),
        only_champion=int((ours & ~theirs).sum()),
        only_shadow=int((theirs & ~ours).sum()),
        disagreements=different.select(
            "symbol",
            "bar_start",
            pl.when(by_shadow).then(pl.lit("shadow")).otherwise(pl.lit("champion")).alias("alert_of"),
            pl.col("anomaly_score").alias("champion_score"),
            pl.col("anomaly_score_shadow").alias("shadow_score"),
            pl.when(by_shadow).then("kind_shadow").otherwise("kind").alias("kind"),
        ),
    )
