"""Registered bundles whose files are missing or differ from the manifest, for ``surveillance doctor``."""

from dataclasses import dataclass
from typing import Any

from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines.services.backup_copies import copy_from_backup
from surveillance_pipelines.services.platform import Stores


@dataclass(frozen=True, slots=True)
class DamagedBundle:
    """A registered bundle that cannot be read.

    Attributes:
        name: version and hash, such as ``v3 0123456789ab``.
        problem: what was expected and what was found.
        served: whether it was ever deployed or served a queue, so that replays of its outputs need it.
        remedy: what to do.
    """

    name: str
    problem: str
    served: bool
    remedy: str


def damaged_bundles(stores: Stores, connection: Any) -> tuple[int, list[DamagedBundle]]:
    """Read every registered bundle except the tenant's champion; return their number, and the damaged ones."""
    from surveillance_pipelines.models.bundle import load_bundle
    from surveillance_pipelines.stores.bundle_folders import bundle_folder
    from surveillance_pipelines.stores.model_store import registered_bundles
    from surveillance_pipelines.stores.predictors import champion_hash

    champion = champion_hash(connection, stores.settings)
    checked, damaged = 0, []
    for stored, served in registered_bundles(connection):
        if stored.bundle_hash == champion:
            continue
        checked += 1
        folder = bundle_folder(stores.models_path, stored.path, stored.bundle_hash)
        try:
            load_bundle(folder, expected_hash=stored.bundle_hash, any_view_code=True)
        except (SurveillanceError, OSError) as error:
            name = f"v{stored.version} {stored.bundle_hash[:12]}"
            problem = error.message if isinstance(error, SurveillanceError) else str(error)
            needed = "replays of its outputs and `surveillance models activate` need it"
            remedy = f"{copy_from_backup(stores, folder)}; {needed}"
            damaged.append(DamagedBundle(name, problem, served, remedy))
    return checked, damaged
