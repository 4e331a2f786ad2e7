"""The report of the demo: printed tables and saved charts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.commands.console import counted, echo, heading, mark, table
from surveillance_pipelines.commands.demo_serving import Served
from surveillance_pipelines.services.demo_market import DemoMarket, served_charts
from surveillance_pipelines.services.demo_matching import ECHO_MINUTES, SLACK_BARS, Alert, Comparison
from surveillance_pipelines.services.demo_outputs import Latencies


def show_comparison(comparison: Comparison, bars: int) -> None:
    """Print planted anomalies with the matching alerts of the output queue; ``bars`` is the number of served bars."""
    rows = [
        (
            f"{to_datetime(match.bar_start):%H:%M}",
            match.symbol,
            match.kind,
            match.bars,
            mark("yes" if match.found else "missed"),
            match.delay_bars,
            match.detected_kind,
            match.score,
        )
        for match in comparison.matches
    ]
    columns = ("UTC", "symbol", "planted kind", "bars", "detected", "delay (bars)", "detected kind", "score")
    table("planted and detected anomalies", columns, rows, right=("bars", "delay (bars)", "score"))
    planted = len(comparison.matches)
    right_kind = sum(match.detected_kind == match.kind for match in comparison.matches)
    echo(f"detected {comparison.found} of {planted} planted anomalies, {right_kind} with the planted kind")
    echo(
        f"(an alert counts if its bar is planted, or at most {SLACK_BARS} bars after a planted one, in the same symbol)"
    )
    kinds = Counter(alert.kind for alert in comparison.false_alerts)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    named = f" ({by_kind})" if by_kind else ""
    false_bars = {(alert.symbol, alert.bar_start) for alert in comparison.false_alerts}
    echo(f"false alerts: on {len(false_bars)} of {bars:,} bars{named}")
    echoes = sum(comparison.is_echo(*bar) for bar in false_bars)
    echo(
        f"({echoes} of these bars follow a planted anomaly within {ECHO_MINUTES} minutes: it is still in their windows)"
    )


def show_service(served: Served, sent: int, latencies: Latencies, *, at_once: bool) -> None:
    """Print the outcomes of the inputs and their latencies."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in served.outcomes.items())
    echo(f"{sent:,} ticks sent = {outcomes}; served by {counted(len(served.run_ids), 'drain run')}")
    alerts = sum(message["type"] == "anomaly" for message in served.messages)
    signals = sum(message["type"] == "signal" for message in served.messages)
    echo(f"read from the output queue: {alerts:,} alert messages (opened, confirmed or retracted), {signals:,} signals")
    rows = [(name, *(values.get(key) for key in ("p50", "p95", "p99"))) for name, values in latencies.items()]
    if rows:
        table("latency, ms", ("from … to", "p50", "p95", "p99"), rows, right=("p50", "p95", "p99"))
        if at_once:
            echo("(the whole day was sent at once, so latencies include the backlog; use `--speed 300` to pace it)")


def save_charts(folder: Path, market: DemoMarket, alerts: Sequence[Alert]) -> list[Path]:
    """Save one chart per symbol of the served day: prices, planted anomalies and alerts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for symbol, chart in served_charts(market, alerts):
        paths.append(folder / f"{symbol}.png")
        paths[-1].write_bytes(chart)
    return paths


def show_next_steps(home: Path, charts: Sequence[Path]) -> None:
    """Print the folder of the charts and the next commands to try."""
    heading("next steps")
    if charts:
        echo(f"  charts       {charts[0].parent}/*.png")
    echo("  Dagster UI   `make dev` (or `surveillance up`): the runs of this demo, lineage, models and their plots")
    echo("  alerts       `surveillance alerts` lists them, `surveillance alerts show ID` explains one")
    echo("  your bars    `surveillance detect bars.parquet --out anomalies.parquet`, `surveillance ingest PATH`")
    echo(
        "  live queue   `surveillance up`; in other terminals `surveillance feed simulated --speed 60`, which sends the"
    )
    echo("               next session, and `surveillance tail`")
    echo(f"  start over   `surveillance reset` deletes {home}")
