"""The stores of the use cases of models, without a platform."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psycopg

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.services.models import Registry


@dataclass(frozen=True, slots=True)
class ModelStores:
    """``DeploymentStores`` with a given connection and registry.

    Attributes:
        connect: opens a connection for a ``with`` block, which commits at its end.
        registry: MLflow, or its stand-in.
        clock: clock for the recorded instants.
    """

    connect: Callable[[], AbstractContextManager[psycopg.Connection]]
    registry: Registry
    clock: Clock = SYSTEM_CLOCK
