"""Replay of predictions by older releases, which did not record their settings and excluded models.

Both are searched for here; newer rows name them.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import Any

from surveillance_pipelines.contracts.outputs import DEFAULT_STRATEGY, row_id
from surveillance_pipelines.replay.comparison import CannotReplayError, Difference
from surveillance_pipelines.replay.repository import ReplayRepository


def config_of_prediction(repository: ReplayRepository, values: Mapping[str, Any]) -> str:
    """Return the hash of the settings that reproduce a prediction's id.

    Raises:
        CannotReplayError: if no settings on record do.
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
    raise CannotReplayError("no settings on record in ops.configs reproduce this prediction's id")


def search_excluded(
    repository: ReplayRepository,
    inbox_position: tuple[str, int] | None,
    replay_without: Callable[[Collection[str]], Difference | None],
) -> tuple[Difference | None, tuple[str, ...]]:
    """Return the difference of a prediction, and the models that were out of service when it was scored.

    The breaker events of its queue limit the models that can have been out of service.

    Args:
        repository: the recorded runs and rows.
        inbox_position: queue and inbox position of the message; None for batch scores and expired messages.
        replay_without: returns the difference with some models excluded.
    """
    difference = replay_without(())
    if difference is None or inbox_position is None:
        return difference, ()
    models = repository.excluded_models(inbox_position[0])
    for excluded in (subset for size in range(len(models)) for subset in combinations(models, size + 1)):
        if replay_without(excluded) is None:
            return None, excluded
    return difference, ()
