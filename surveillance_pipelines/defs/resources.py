"""The Dagster resource of the platform: settings and stores, resolved on first use in a run."""

from functools import cache
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from surveillance_pipelines.clock import SYSTEM_CLOCK, Clock
from surveillance_pipelines.services.configuration import read_settings
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.settings import Settings

if TYPE_CHECKING:
    from surveillance_pipelines.contracts.endpoints import Endpoints


class PlatformResource(dg.ConfigurableResource, Stores):
    """Settings, database, lake, model registry and clock.

    Settings are read from the environment at run time and services are resolved once per process, so that definitions
    load without credentials, database and network.
    """

    env_file: str = Field(
        default=".env", description="File with settings, which environment variables override; empty for none."
    )

    @property
    def settings(self) -> Settings:
        return read_settings(self.env_file or None)

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
