"""The stores of the use cases of models, without a platform."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.services.models import Registry


@dataclass(frozen=True, slots=True)
class ModelStores:
    """``DeploymentStores`` with a given connection and registry.

    Attributes:
        connect: opens a connection for a ``with`` block, which commits at its end.
        registry: MLflow, or its stand-in.
        models_path: folder of the frozen bundles.
        clock: clock for the recorded instants.
    """

    connect: Callable[[], AbstractContextManager[psycopg.Connection]]
    registry: Registry
    models_path: Path
    clock: Clock = SYSTEM_CLOCK
