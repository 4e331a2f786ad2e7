"""The one resource of the platform: settings and the stores behind them, found when a run asks and not before."""

from functools import cache
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    from surveillance_pipelines.contracts.endpoints import Endpoints


class PlatformResource(dg.ConfigurableResource, Stores):
    """Settings, database, lake, model registry and clock.

    Holds nothing itself: settings are read from the environment at run time, and services are resolved once per
    process. Definitions therefore load with no credentials, no database and no network.
    """

    env_file: str = Field(default=".env", description="File of settings beside the environment; empty for none.")

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=self.env_file or None)  # pyright: ignore[reportCallIssue]

    @property
    def clock(self) -> Clock:
        return SYSTEM_CLOCK

    @property
    def endpoints(self) -> "Endpoints":
        return _resolve_once(self.settings)  # pyright: ignore[reportArgumentType] (frozen, so hashable)


@cache
def _resolve_once(settings: Settings) -> "Endpoints":
    from surveillance_pipelines.services.provisioning import provision

    return provision(settings)
