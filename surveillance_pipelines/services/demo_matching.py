"""Planted anomalies beside the alerts that came out of the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import MICROSECONDS, to_us

if TYPE_CHECKING:
    import polars as pl

ECHO_MINUTES: Final = 60
"""The longest window of the features."""
SLACK_BARS: Final = 5
"""An alert this long after the last changed bar still belongs to it: features remember what just happened."""

_MINUTE_US: Final = 60 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as a reader of the output queue knows it at the end. Instants are microseconds since the epoch."""

    symbol: str
    bar_start: int
    kind: str
    status: str  # the last one said: opened, confirmed or retracted
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """One planted anomaly and the alerts on its bars, the best first in ``called``."""

    symbol: str
    kind: str
    bar_start: int
    bars: int
    found: bool
    delay_bars: int | None
    called: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every planted anomaly with its match, and the alerts that belong to none."""

    matches: tuple[Match, ...]
    false_alerts: tuple[Alert, ...]

    def is_echo(self, symbol: str, bar_start: int) -> bool:
        """Say whether a bar comes so soon after a planted anomaly that the windows of its features still hold it."""
        own = [match for match in self.matches if match.symbol == symbol]
        return any(0 <= bar_start - row.bar_start < (row.bars + ECHO_MINUTES) * _MINUTE_US for row in own)

    @property
    def found(self) -> int:
        return sum(match.found for match in self.matches)


def alerts_of(messages: Sequence[dict[str, Any]]) -> list[Alert]:
    """Return the alerts that stand: of each alert the last word, without those retracted. Repeats count once."""
    latest: dict[str, Alert] = {}
    for message in messages:
        if message["type"] != "anomaly":
            continue
        instant = to_us(datetime.fromisoformat(message["bar_start"]))
        status = message["alert_status"]
        before = latest.get(message["alert_id"])
        if before is not None and before.status != "opened" and status == "opened":
            continue
        alert = Alert(message["symbol"], instant, message["kind"], status, message["score"])
        latest[message["alert_id"]] = alert
    return sorted(
        (alert for alert in latest.values() if alert.status != "retracted"),
        key=lambda alert: (alert.bar_start, alert.symbol),
    )


def compare(planted: "pl.DataFrame", alerts: Sequence[Alert]) -> Comparison:
    """Match alerts to planted anomalies.

    An anomaly counts as found when an alert, of whatever kind, stands on one of its bars or the five after it.

    Args:
        planted: ``PLAN_SCHEMA``.
        alerts: as ``alerts_of`` gives them.
    """
    matches, claimed = [], set()
    for row in planted.sort("bar_start").iter_rows(named=True):
        start = to_us(row["bar_start"])
        end = start + (row["bars"] - 1 + SLACK_BARS) * _MINUTE_US
        mine = [alert for alert in alerts if alert.symbol == row["symbol"] and start <= alert.bar_start <= end]
        claimed.update(mine)
        matches.append(_match(row, start, mine))
    return Comparison(tuple(matches), tuple(alert for alert in alerts if alert not in claimed))


def _match(row: dict[str, Any], start: int, alerts: Sequence[Alert]) -> Match:
    if not alerts:
        return Match(
            row["symbol"], row["kind"], start, row["bars"], found=False, delay_bars=None, called=None, score=None
        )
    best = max(alerts, key=lambda alert: (alert.kind == row["kind"], alert.score))
    delay = (min(alert.bar_start for alert in alerts) - start) // _MINUTE_US
    return Match(
        row["symbol"], row["kind"], start, row["bars"], found=True, delay_bars=delay, called=best.kind, score=best.score
    )
