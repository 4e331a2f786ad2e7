"""Matches planted anomalies with the alerts of the output queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.clock import MICROSECONDS, to_us

if TYPE_CHECKING:
    import polars as pl

ECHO_MINUTES: Final = 60
"""Longest feature window."""
SLACK_BARS: Final = 5
"""An alert up to this many bars after the last changed bar matches: the bar is still in the feature windows."""

_MINUTE_US: Final = 60 * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert with its last status on the output queue. Instants are microseconds since the epoch."""

    symbol: str
    bar_start: int
    kind: str
    status: str  # opened, confirmed or retracted
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """One planted anomaly and its matching alerts; ``detected_kind`` and ``score`` are those of the best alert."""

    symbol: str
    kind: str
    bar_start: int
    bars: int
    found: bool
    delay_bars: int | None
    detected_kind: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every planted anomaly with its match, and the alerts that match none."""

    matches: tuple[Match, ...]
    false_alerts: tuple[Alert, ...]

    def is_echo(self, symbol: str, bar_start: int) -> bool:
        """Return whether the feature windows of a bar still contain a planted anomaly."""
        matches = [match for match in self.matches if match.symbol == symbol]
        return any(0 <= bar_start - row.bar_start < (row.bars + ECHO_MINUTES) * _MINUTE_US for row in matches)

    @property
    def found(self) -> int:
        return sum(match.found for match in self.matches)


def alerts_of(messages: Sequence[dict[str, Any]]) -> list[Alert]:
    """Return each alert once with its last status, without retracted alerts."""
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

    An anomaly counts as found if an alert of any kind is on one of its bars or the ``SLACK_BARS`` bars after it.

    Args:
        planted: ``PLAN_SCHEMA``.
        alerts: alerts of ``alerts_of``.
    """
    matches, claimed = [], set()
    for row in planted.sort("bar_start").iter_rows(named=True):
        start = to_us(row["bar_start"])
        end = start + (row["bars"] - 1 + SLACK_BARS) * _MINUTE_US
        matching = [alert for alert in alerts if alert.symbol == row["symbol"] and start <= alert.bar_start <= end]
        claimed.update(matching)
        matches.append(_match(row, start, matching))
    return Comparison(tuple(matches), tuple(alert for alert in alerts if alert not in claimed))


def _match(row: dict[str, Any], start: int, alerts: Sequence[Alert]) -> Match:
    if not alerts:
        return Match(
            row["symbol"], row["kind"], start, row["bars"], found=False, delay_bars=None, detected_kind=None, score=None
        )
    best = max(alerts, key=lambda alert: (alert.kind == row["kind"], alert.score))
    delay = (min(alert.bar_start for alert in alerts) - start) // _MINUTE_US
    return Match(
        row["symbol"],
        row["kind"],
        start,
        row["bars"],
        found=True,
        delay_bars=delay,
        detected_kind=best.kind,
        score=best.score,
    )
