"""The report of the demo: printed tables and saved charts."""

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from surveillance_pipelines.commands.console import cell, counted, echo, heading, table
from surveillance_pipelines.commands.demo_serving import Served
from surveillance_pipelines.commands.train import show_training
from surveillance_pipelines.services.demo_market import DemoMarket, served_charts
from surveillance_pipelines.services.demo_matching import ECHO_MINUTES, SLACK_BARS, Alert, Comparison, Match
from surveillance_pipelines.services.demo_outputs import Latencies
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    from surveillance_pipelines.commands.training import Training


def show_models(training: "Training") -> None:
    """Print the most important metrics and the decision of the gate; after a refusal, all of them."""
    if training.kept_as_shadow:
        echo(f"the gate passed: v{training.version} is a shadow, because it is not better than the champion")
        return
    if not training.promoted:
        show_training(training)
        echo("the demo continues with the warm-up rules", style="yellow")
        return
    value = training.metrics
    echo(
        f"on held-out days: accuracy {value['classifier_accuracy']:.3f} "
        f"(always the most frequent class: {value['classifier_majority_accuracy']:.3f}), "
        f"balanced accuracy {value['classifier_balanced_accuracy']:.3f} "
        f"(warm-up rules: {value['classifier_warmup_balanced_accuracy']:.3f})"
    )
    warnings = [check.name for check in training.gate if not check.passed]
    noted = f"; not blocking: {', '.join(warnings)} failed" if warnings else ""
    echo(f"the gate passed: v{training.version} is the champion{noted}", style="green")


def show_comparison(comparison: Comparison, bars: int) -> None:
    """Print the planted anomalies of each kind with their alerts; ``bars`` is the number of served bars."""
    columns = ("planted kind", "planted", "detected", "with this kind", "first alert after (bars)")
    title = "planted anomalies and the alerts of the output queue"
    table(title, columns, _by_kind(comparison.matches), right=columns[1:], lines=False)
    echo(
        f"detected {comparison.found} of {len(comparison.matches)} (an alert counts on a planted bar, or at most "
        f"{SLACK_BARS} bars after one, in the same symbol)"
    )
    false_bars = {(alert.symbol, alert.bar_start) for alert in comparison.false_alerts}
    echoes = sum(comparison.is_echo(*bar) for bar in false_bars)
    echo(
        f"false alerts: on {len(false_bars)} of {bars:,} bars, {echoes} of them within {ECHO_MINUTES} minutes after a "
        "planted anomaly"
    )


def _by_kind(matches: Sequence[Match]) -> list[tuple[str, int, int, int, str]]:
    rows = []
    for kind in sorted({match.kind for match in matches}):
        planted = [match for match in matches if match.kind == kind]
        delays = [match.delay_bars for match in planted if match.delay_bars is not None]
        named = sum(match.detected_kind == kind for match in planted)
        rows.append((kind, len(planted), sum(match.found for match in planted), named,
                     ", ".join(str(delay) for delay in delays) or cell(None)))  # fmt: skip
    return rows


def show_service(served: Served, sent: int, latencies: Latencies, *, at_once: bool) -> None:
    """Print the outcomes of the inputs and their latencies."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in served.outcomes.items())
    received = Counter(message["type"] for message in served.messages)
    incidents = len({message["incident_id"] for message in served.messages if message["type"] == "incident"})
    echo(f"{sent:,} ticks sent = {outcomes}; {counted(len(served.run_ids), 'drain run')}")
    echo(
        f"received: {received['incident']:,} messages about {counted(incidents, 'incident')}, "
        f"{received['anomaly']:,} about single alerts (`PUBLISH=incidents` omits them) and "
        f"{counted(received['signal'], 'signal')}"
    )
    spans = [f"{name} {' / '.join(cell(round(ms)) for ms in values.values())}" for name, values in latencies.items()]
    if spans:
        backlog = "; the whole day was sent at once, `--speed 300` paces it" if at_once else ""
        echo(f"latency, p50 / p95 / p99 in ms: {', '.join(spans)}{backlog}")


def save_charts(folder: Path, market: DemoMarket, alerts: Sequence[Alert]) -> list[Path]:
    """Save one chart per symbol of the served day: prices, planted anomalies and alerts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for symbol, chart in served_charts(market, alerts):
        paths.append(folder / f"{symbol}.png")
        paths[-1].write_bytes(chart)
    return paths


def show_next_steps(home: Path, charts: Sequence[Path]) -> None:
    """Print the folder of the charts and the next commands to try, as they work in the current folder."""
    program = _program()
    command = (
        program
        if home == Path(Settings.model_fields["surveillance_home"].default).absolute()
        else f"{program} --home {shlex.quote(str(home))}"
    )
    heading("next steps")
    lines = [
        *([f"charts       {charts[0].parent}/*.png"] if charts else []),
        f"Dagster UI   `{command} up`: the runs of this demo, lineage, models and their plots",
        f"incidents    `{command} incidents` lists them, `{command} incidents show ID` shows one with its alerts",
        f"alerts       `{command} alerts` lists them, `{command} alerts show ID` explains one",
        f"live queue   while it runs: `{command} feed simulated --speed 60` sends the next session,",
        f"             `{command} tail` shows the alerts",
        f"your bars    `{program} --home DIR ingest PATH`, DIR being a new folder; its last line names the next step",
        f"start over   `{command} reset` deletes all data of this demo, {home}",
    ]
    for line in lines:
        echo(f"  {line}", wrap=False)


def _program() -> str:
    """Return how the user can start this program: by its name if it is on PATH."""
    started = Path(sys.argv[0])
    found = shutil.which(started.name)
    return started.name if found is not None and Path(found).samefile(started) else shlex.quote(sys.argv[0])
