"""Predictions that are older than the record of their settings and excluded models: what a replay must search for.

Newer rows name both. Nothing else in this package searches.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import Any

from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, row_id
from surveillance_pipelines.replay.comparison import CannotReplayError, Difference
from surveillance_pipelines.replay.repository import ReplayRepository


def config_of_prediction(repository: ReplayRepository, values: Mapping[str, Any]) -> str:
    """Return the settings under which a prediction gets its id.

    Raises:
        CannotReplayError: if no settings on record give it.
    """
    for config_hash in repository.configs():
        id_ = row_id(
            "score",
            kind="score",
            tenant=repository.knobs(config_hash)["tenant"],
            strategy=DEFAULT_STRATEGY,
            symbol=values["symbol"],
            timeframe=values["timeframe"],
            bar_start=values["bar_start"],
            revision=values["revision"],
            bar_status="final",
            trigger_message_id=None,
            feature_view=values["feature_view"],
            bundle_hash=values["bundle_hash"],
            config_hash=config_hash,
        )
        if id_ == values["id"]:
            return config_hash
    raise CannotReplayError("no settings on record in ops.configs give this prediction its id")


def search_excluded(
    repository: ReplayRepository,
    place: tuple[str, int] | None,
    replayed: Callable[[Collection[str]], Difference | None],
) -> tuple[Difference | None, tuple[str, ...]]:
    """Return the difference of a prediction, and the models that were out of service when it was scored.

    The history of the breakers of its queue says which models those can have been.

    Args:
        repository: the recorded runs and rows.
        place: queue and inbox position of the message; None for batch scores and where it is no longer kept.
        replayed: returns the difference with some models excluded.
    """
    difference = replayed(())
    if difference is None or place is None:
        return difference, ()
    suspects = repository.models_taken_out(place[0])
    for excluded in (found for size in range(len(suspects)) for found in combinations(suspects, size + 1)):
        if replayed(excluded) is None:
            return None, excluded
    return difference, ()
