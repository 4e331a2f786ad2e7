"""``surveillance demo``: run the whole platform end to end on embedded services and a synthetic market."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.commands.console import echo, heading
from surveillance_pipelines.commands.exit_codes import ExitCode

_SETTINGS: Final = {
    # Short intervals: the sensor checks the queue at each daemon tick, a drain run ends soon after its last message.
    "SQS_POLLING_INTERVAL": "1",
    "DRAIN_IDLE_SECONDS": "20",
    "FALLBACK_TO_YFINANCE": "false",
}
"""Environment variables that the demo sets unless they are set already."""


def demo(
    seed: Annotated[int, typer.Option(help="Set the random seed of market, anomalies and training.")] = 7,
    speed: Annotated[
        str,
        typer.Option(help="Set the speed of the served day in market seconds per second; `max` sends without pauses."),
    ] = "max",
    marts: Annotated[bool, typer.Option(help="Build the dbt marts at the end.")] = True,
) -> None:
    """Run the pipeline on a synthetic market: train, promote, serve a day with planted anomalies, compare the alerts.

    All data is in SURVEILLANCE_HOME. The home of an earlier demo is deleted first; any other home is an error. Exits
    with 1 if the gate refuses the models, no planted anomaly is found, or an input is not scored.
    """
    from surveillance_pipelines.commands.children import interrupt_on_signals
    from surveillance_pipelines.commands.demo_steps import Demo, create_demo_home
    from surveillance_pipelines.commands.feed import parse_speed

    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    platform = create_demo_home()
    stages = Stages()
    with interrupt_on_signals(), Demo(platform, seed=seed, speed=parse_speed(speed)) as run:
        with stages("services", "services: PostgreSQL, queues, migrations, the Dagster daemon"):
            run.start()
        with stages("market", "history: ingest the bars of a simulated market"):
            run.land_history()
        with stages("features", "features: compute bars and features of the history in one Dagster run"):
            run.compute_features()
        with stages("training", "training: train, evaluate and apply the promotion gate"):
            run.train()
        with stages("serving", "serving: send one more day through the input queue, read alerts from the output queue"):
            run.serve()
        with stages("tables", "tables: load the served day into the lake, score it in batch, build the marts"):
            run.build_tables(marts=marts)
        problems = run.report()
    parts = ", ".join(f"{name} {spent:.0f}" for name, spent in stages.spent)
    echo(f"total {stages.total():.0f} s: {parts}")
    if problems:
        for problem in problems:
            echo(f"the demo failed: {problem}", style="red")
        raise typer.Exit(ExitCode.FAILED)


@dataclass
class Stages:
    """Prints a heading per stage of the demo and records its duration."""

    spent: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str, title: str) -> Iterator[None]:
        heading(f"{len(self.spent) + 1}. {title}")
        began = SYSTEM_CLOCK.now_us()
        yield
        self.spent.append((name, (SYSTEM_CLOCK.now_us() - began) / 1e6))

    def total(self) -> float:
        return sum(spent for _, spent in self.spent)
