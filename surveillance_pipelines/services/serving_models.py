"""Which models a drain run would serve with, and why not the champion: for status, doctor, checks and sensors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surveillance_pipelines.contracts.errors import SurveillanceError
from surveillance_pipelines.services.backup_copies import copy_from_backup
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.bundle_folders import bundle_folder

if TYPE_CHECKING:
    from surveillance_pipelines.stores.model_store import StoredBundle


@dataclass(frozen=True, slots=True)
class ServingModels:
    """The models with which a drain run that starts now serves.

    Attributes:
        champion: name and hash of the champion, such as ``v3 0123456789ab``; None if there is none.
        problem: reason why the champion cannot be loaded; None if it can, or if there is none.
        serves: the models that serve; None if nothing can serve, so that drain runs fail.
        remedy: actions of the user; empty if the champion serves.
    """

    champion: str | None
    problem: str | None
    serves: str | None
    remedy: str = ""

    @property
    def is_damaged(self) -> bool:
        return self.problem is not None

    @property
    def sentence(self) -> str:
        """Describe what serves instead of a champion that cannot be loaded."""
        instead = "nothing, drain runs fail" if self.serves is None else self.serves
        return f"{self.champion} cannot be loaded ({self.problem}); served instead: {instead}"


def serving_models(stores: Stores, connection: Any, *, predict: bool = False) -> ServingModels:
    """Verify the bundles that may serve, best first, until one is intact.

    Args:
        stores: settings and stores.
        connection: connection to PostgreSQL.
        predict: also let the models of a bundle predict once. A run excludes a model that fails then.
    """
    from surveillance_pipelines.models.ensemble import Ensemble, warmed_ensemble
    from surveillance_pipelines.stores.predictors import load_stored, serving_candidates

    champion, problem, repair = None, None, ""
    for stored in serving_candidates(connection, stores.settings):
        name = f"v{stored.version} {stored.bundle_hash[:12]}"
        champion = champion or name
        try:
            bundle = load_stored(stores.settings, stored)
            _ = warmed_ensemble(bundle) if predict else Ensemble(bundle)
        except (SurveillanceError, OSError) as error:
            problem = problem or str(error)
            repair = repair or _repair(stores, stored)
            continue
        remedy = f"`surveillance models activate v{stored.version}` makes it the champion; " if problem else ""
        return ServingModels(champion, problem, name, remedy + repair if problem else "")
    if champion is None:
        return ServingModels(None, None, _rules(stores.settings), "`surveillance train`")
    remedy = repair if stores.settings.warmup_mode_enabled else f"{repair}, or set WARMUP_MODE_ENABLED=true"
    return ServingModels(champion, problem, _rules(stores.settings), remedy)


def _repair(stores: Stores, stored: "StoredBundle") -> str:
    folder = bundle_folder(stores.models_path, stored.path, stored.bundle_hash)
    return f"{copy_from_backup(stores, folder)}; or train again (`surveillance train`)"


def _rules(settings: Settings) -> str | None:
    return "the warm-up rules" if settings.warmup_mode_enabled else None
