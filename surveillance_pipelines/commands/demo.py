"""``surveillance demo``: the whole platform end to end, on embedded services and a synthetic market."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.commands.console import heading, say
from surveillance_pipelines.commands.failures import ExitCode

_SETTINGS: Final = {
    # The sensor looks as often as the daemon lets it, and a run ends soon after its work: nobody waits for either.
    "SQS_POLLING_INTERVAL": "1",
    "DRAIN_IDLE_SECONDS": "20",
    "FALLBACK_TO_YFINANCE": "false",
}
"""What the demo sets unless the environment says otherwise."""


def demo(
    seed: Annotated[int, typer.Option(help="Of the market, the anomalies and the training.")] = 7,
    speed: Annotated[
        str, typer.Option(help="Market seconds per second of the served day; `max` for no pause.")
    ] = "max",
    marts: Annotated[bool, typer.Option(help="Build the dbt marts at the end.")] = True,
) -> None:
    """Simulate, ingest, train, gate, promote, serve a day with planted anomalies, and show what came out of the queue.

    Everything is embedded and lies in SURVEILLANCE_HOME. A home of an earlier demo is deleted first; any other one is
    left alone, and the demo says so. Exits with 1 when the gate refuses the models or nothing comes out of the queue.
    """
    from surveillance_pipelines.commands.children import ending_on_signals
    from surveillance_pipelines.commands.demo_steps import Demo, fresh_home
    from surveillance_pipelines.commands.feed import parse_speed

    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    platform = fresh_home()
    stages = Stages()
    with ending_on_signals(), Demo(platform, seed=seed, speed=parse_speed(speed)) as run:
        with stages("services", "services: PostgreSQL, queues, migrations, the Dagster daemon"):
            run.start()
        with stages("market", "a simulated market lands as bars"):
            run.land_history()
        with stages("features", "bars and features, as one Dagster run over the history"):
            run.compute_features()
        with stages("training", "training, evaluation, gate"):
            run.train()
        with stages("serving", "one more day goes through the input queue; alerts come back from the output queue"):
            run.serve()
        with stages("tables", "the served day in the lake, scores at rest and the marts"):
            run.build_tables(marts=marts)
        problems = run.report()
    parts = ", ".join(f"{name} {spent:.0f}" for name, spent in stages.spent)
    say(f"took {stages.total():.0f} s: {parts}")
    if problems:
        for problem in problems:
            say(f"the demo did not do all that it should: {problem}", style="red")
        raise typer.Exit(ExitCode.FAILED)


@dataclass
class Stages:
    """Prints the parts of the demo as they begin, and keeps how long each took."""

    spent: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str, title: str) -> Iterator[None]:
        heading(f"{len(self.spent) + 1}. {title}")
        began = SYSTEM_CLOCK.now_us()
        yield
        self.spent.append((name, (SYSTEM_CLOCK.now_us() - began) / 1e6))

    def total(self) -> float:
        return sum(spent for _, spent in self.spent)
