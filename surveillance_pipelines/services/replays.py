"""Replay of stored outputs: rebuild them from stored bars, settings and models, and compare."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Stores

if TYPE_CHECKING:
    from surveillance_pipelines.replay.comparison import Replayed


def replay_outputs(
    stores: Stores,
    ids: Sequence[str],
    *,
    sample: int = 0,
    seed: int = 0,
    since: date | None = None,
    advanced: Callable[[int, int], None] = lambda _done, _total: None,
) -> "list[Replayed]":
    """Return the comparison of some outputs, and of others drawn at random, with what their inputs give now.

    Args:
        stores: database, lake and settings.
        ids: of anomalies, signals, predictions or messages.
        sample: how many further outputs to draw.
        seed: another one draws other outputs.
        since: draw from bars of this UTC day on.
        advanced: told how many of how many outputs are done.

    Raises:
        InvalidInputError: if neither ids nor a sample is asked for.
    """
    from surveillance_pipelines.replay.replayer import Replayer

    if not ids and not sample:
        raise InvalidInputError(
            "expected ids of outputs or --sample N, got neither",
            remedy="take an id from the column id of surveillance.anomalies or from a message, or draw some: "
            "surveillance replay --sample 20",
        )
    results: list[Replayed] = []
    with stores.connect() as connection:
        replayer = Replayer(connection, stores.lake, stores.settings)
        drawn = replayer.sample(sample, seed, since) if sample else []
        wanted = list(dict.fromkeys([*ids, *drawn]))
        for result in replayer.replay(wanted):
            results.append(result)
            advanced(len(results), len(wanted))
    return results
