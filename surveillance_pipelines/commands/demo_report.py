"""What the demo prints and saves at its end."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from surveillance_pipelines.clock import to_datetime
from surveillance_pipelines.commands.console import counted, heading, mark, say, table
from surveillance_pipelines.commands.demo_serving import Served
from surveillance_pipelines.services.demo_market import DemoMarket, served_pictures
from surveillance_pipelines.services.demo_matching import ECHO_MINUTES, SLACK_BARS, Alert, Comparison
from surveillance_pipelines.services.demo_outputs import Latencies


def show_comparison(comparison: Comparison, bars: int) -> None:
    """Print planted anomalies beside the alerts of the output queue; ``bars`` were served in all."""
    rows = [
        (
            f"{to_datetime(match.bar_start):%H:%M}",
            match.symbol,
            match.kind,
            match.bars,
            mark("yes" if match.found else "missed"),
            match.delay_bars,
            match.called,
            match.score,
        )
        for match in comparison.matches
    ]
    columns = ("UTC", "symbol", "planted", "bars", "found", "after bars", "called", "score")
    table("planted against detected", columns, rows, right=("bars", "after bars", "score"))
    planted = len(comparison.matches)
    right_name = sum(match.called == match.kind for match in comparison.matches)
    say(f"found {comparison.found} of {planted} planted anomalies, {right_name} by their own name")
    say(f"(an alert counts when it stands on a planted bar of its symbol or within {SLACK_BARS} bars after)")
    kinds = Counter(alert.kind for alert in comparison.false_alerts)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    named = f" ({by_kind})" if by_kind else ""
    beside = {(alert.symbol, alert.bar_start) for alert in comparison.false_alerts}
    say(f"alerts where nothing was planted: on {len(beside)} of {bars:,} bars{named}")
    echoes = sum(comparison.is_echo(*bar) for bar in beside)
    say(f"({echoes} of these bars follow a planted anomaly within {ECHO_MINUTES} minutes: their windows still hold it)")


def show_service(served: Served, sent: int, latencies: Latencies, *, at_once: bool) -> None:
    """Print how the inputs ended and how long they took."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in served.outcomes.items())
    say(f"{sent:,} ticks sent = {outcomes}; served by {counted(len(served.run_ids), 'drain run')}")
    alerts = sum(message["type"] == "anomaly" for message in served.messages)
    signals = sum(message["type"] == "signal" for message in served.messages)
    say(f"read from the output queue: {alerts:,} alert messages (opened, confirmed or retracted), {signals:,} signals")
    rows = [(name, *(values.get(key) for key in ("p50", "p95", "p99"))) for name, values in latencies.items()]
    if rows:
        table("latency, ms", ("from … to", "p50", "p95", "p99"), rows, right=("p50", "p95", "p99"))
        if at_once:
            say("(the whole day was sent at once, so the wait is the backlog; `--speed 300` sends it at a steady pace)")


def save_pictures(folder: Path, market: DemoMarket, alerts: Sequence[Alert]) -> list[Path]:
    """Save one picture per symbol of the served day: price, what was planted, what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for symbol, picture in served_pictures(market, alerts):
        paths.append(folder / f"{symbol}.png")
        paths[-1].write_bytes(picture)
    return paths


def show_what_next(home: Path, pictures: Sequence[Path]) -> None:
    """Print where things are, and what to try."""
    heading("what next")
    if pictures:
        say(f"  pictures        {pictures[0].parent}/*.png")
    say("  the Dagster UI  `make dev` (or `surveillance up`): these very runs, the lineage, models and their plots")
    say("  your own bars   `surveillance detect bars.parquet --out anomalies.parquet`, `surveillance ingest PATH`")
    say("  the live queue  `surveillance up`, then the next session: `surveillance feed simulated --speed 60`, and")
    say("                  `surveillance tail`")
    say(f"  start again     `surveillance reset` deletes {home}")
