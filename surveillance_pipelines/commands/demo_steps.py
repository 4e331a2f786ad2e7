"""The steps of the demo. Leaving the ``Demo`` context stops every process that they started."""

import json
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from surveillance_pipelines.commands import demo_report
from surveillance_pipelines.commands.children import Child
from surveillance_pipelines.commands.console import echo
from surveillance_pipelines.commands.dagster_home import open_instance, prepare, start_daemon
from surveillance_pipelines.commands.dagster_runs import run_job
from surveillance_pipelines.commands.demo_serving import Served, serve
from surveillance_pipelines.commands.feed import send
from surveillance_pipelines.commands.training import Training, train_range
from surveillance_pipelines.contracts.endpoints import DEMO_MARKER
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.defs.bars.partitions import range_tags
from surveillance_pipelines.services.demo_market import DemoMarket, build_market, served_ticks
from surveillance_pipelines.services.demo_matching import alerts_of, compare
from surveillance_pipelines.services.demo_outputs import latencies
from surveillance_pipelines.services.homes import delete_home, require_unused
from surveillance_pipelines.services.ingestion import ReceivedBars, land
from surveillance_pipelines.services.instruments import register
from surveillance_pipelines.services.platform import Platform, open_platform

if TYPE_CHECKING:
    import dagster as dg


def create_demo_home() -> Platform:
    """Return a platform over an empty home.

    Raises:
        InvalidInputError: if external stores are configured, or the home was not created by a demo.
    """
    platform = open_platform()
    settings = platform.settings
    configured = {
        "DATABASE_URL": settings.database_url,
        "SQS_QUEUE_URL": settings.sqs_queue_url,
        "LAKE_URL": settings.lake_url,
        "OUTPUT_QUEUE_URL": settings.output_queue_url,
        "MODEL_STORAGE_PATH": settings.model_storage_path,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,  # the demo would replace its champion
        "DAGSTER_DATABASE_URL": settings.dagster_database_url,
    }
    if named := [name for name, value in configured.items() if value]:
        raise InvalidInputError(
            f"expected no external store, got {', '.join(named)}: the demo would write a synthetic market to it",
            remedy=f"unset {', '.join(named)} in the environment and in .env, and repeat",
        )
    home = platform.home
    if home.exists() and any(home.iterdir()):
        if not (home / DEMO_MARKER).is_file():
            raise InvalidInputError(
                f"expected {home} to be empty or from an earlier demo, got a folder with other data",
                remedy="use a separate home: `surveillance --home .demo demo`",
            )
        require_unused(home)
        echo(f"deleting the data of an earlier demo in {home}")
        delete_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    (home / DEMO_MARKER).write_text(json.dumps({"made_by": "surveillance demo"}))
    return platform


class Demo:
    """One run of the demo. Use in a ``with`` block, which stops the daemon at its end, also after an error."""

    def __init__(self, platform: Platform, *, seed: int, speed: float | None) -> None:
        self._platform, self._seed, self._speed = platform, seed, speed
        self._stack = ExitStack()
        self._served = Served()
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        echo("stopping the daemon and the services …")
        self._stack.close()

    def start(self) -> None:
        """Start services and daemon; the daemon loads its code while the market is simulated."""
        environment = prepare(self._platform)
        self._instance: dg.DagsterInstance = self._stack.enter_context(open_instance(self._platform))
        self._daemon: Child = start_daemon(self._platform, environment)
        self._stack.callback(self._daemon.stop)

    def land_history(self) -> None:
        """Simulate the market and ingest its history, as ``surveillance ingest`` does."""
        settings = self._platform.settings
        self._market: DemoMarket = build_market(settings.symbols, self._seed, self._platform.clock)
        received = ReceivedBars("simulated", self._market.history, rows_in=self._market.history.height)
        landed = land(self._platform, received, detail={"seed": self._seed, "demo": True}).landed
        symbols = ", ".join(settings.symbols)
        echo(f"{landed.height:,} bars of {symbols} from {self._market.first} to {self._market.last}")
        register(self._platform, settings.symbols, source="demo", first=self._market.first, last=self._market.day)
        echo(f"{self._market.planted.height} anomalies of {self._market.planted['kind'].n_unique()} kinds are planted "
            f"in the bars of {self._market.day}, which is not part of the training data")  # fmt: skip

    def compute_features(self) -> None:
        """Resolve and resample bars and compute features of the history, in one run."""
        tags = range_tags(self._market.first, self._market.last)
        run_job(self._platform, "market_data_job", tags=tags).require_success("market_data_job")

    def train(self) -> None:
        """Train on the history; the gate decides about the promotion."""
        self._training: Training = train_range(self._platform, self._market.first, self._market.last, seed=self._seed)
        demo_report.show_models(self._training)

    def serve(self) -> None:
        """Feed the last day as ticks and read the output queue."""
        platform = self._platform
        self._sent = send(platform, served_ticks(self._market, self._seed), speed=self._speed)
        self._served = serve(platform, self._instance, self._daemon, self._sent)

    def build_tables(self, *, marts: bool) -> None:
        """Load the served day into the lake, score it and the day before in batch, then build the dbt marts."""
        day = self._market.day
        run_job(self._platform, "market_data_job", tags=range_tags(day, day)).require_success("market_data_job")
        scored = range_tags(self._market.last, day)
        run_job(self._platform, "scoring_job", tags=scored).require_success("scoring_job")
        if marts:
            run_job(self._platform, "marts_job", tags={}, location="marts").require_success("marts_job")

    def report(self) -> list[str]:
        """Print the comparison and the next steps; return the problems."""
        alerts = alerts_of(self._served.messages)
        comparison = compare(self._market.planted, alerts)
        demo_report.show_comparison(comparison, self._market.served.height)
        demo_report.show_service(self._served, self._sent, latencies(self._platform), at_once=self._speed is None)
        charts = demo_report.save_charts(self._platform.home / "demo", self._market, alerts)
        demo_report.show_next_steps(self._platform.home, charts)
        problems = []
        if not (self._training.promoted or self._training.kept_as_shadow):
            problems.append(f"the gate refused the models: {'; '.join(self._training.refusals)}")
        if not comparison.found:
            problems.append("no planted anomaly was found among the messages of the output queue")
        if self._served.outcomes.get("scored", 0) != self._sent:
            problems.append(f"expected {self._sent:,} scored ticks, got {self._served.outcomes}")
        return problems
