"""Replay of stored outputs: recompute them from stored bars, settings and models, and compare."""

import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Stores
from surveillance_pipelines.stores.output_ids import MOST, output_ids_like

if TYPE_CHECKING:
    from surveillance_pipelines.replay.comparison import Replayed

_PREFIX: Final = re.compile(r"[0-9a-f]{6,64}")
"""An id, or as few of its first characters as ``alerts show`` accepts."""


def replay_outputs(
    stores: Stores,
    ids: Sequence[str],
    *,
    sample: int = 0,
    seed: int = 0,
    since: date | None = None,
    advanced: Callable[[int, int], None] = lambda _done, _total: None,
) -> "list[Replayed]":
    """Recompute the given outputs and a random sample, and return the comparison with the stored values.

    Args:
        stores: database, lake and settings.
        ids: ids of anomalies, signals, predictions, messages or alerts, or unique prefixes of them.
        sample: size of the random sample.
        seed: random seed of the sample.
        since: first UTC day of the sample.
        advanced: progress callback, called with the numbers of replayed and of all outputs.

    Raises:
        InvalidInputError: if there are no ids and no sample, or if a prefix matches several ids.
    """
    from surveillance_pipelines.replay.replayer import Replayer

    if not ids and not sample:
        raise InvalidInputError(
            "expected ids of outputs or a sample size, got neither",
            remedy="pass ids (column id of surveillance.anomalies, or field id of a message), or a sample size: "
            "`surveillance replay --sample 20`",
        )
    results: list[Replayed] = []
    with stores.connect() as connection:
        replayer = Replayer(connection, stores.lake, stores.settings)
        drawn = replayer.sample(sample, seed, since) if sample else []
        named = [_full_id(connection, stores.settings.tenant, id_) for id_ in ids]
        wanted = list(dict.fromkeys([*named, *drawn]))
        for result in replayer.replay(wanted):
            results.append(result)
            advanced(len(results), len(wanted))
    return results


def _full_id(connection: Any, tenant: str, id_: str) -> str:
    """Return the id that begins with a prefix; a text that matches none is returned as it is."""
    prefix = id_.strip().lower()
    if _PREFIX.fullmatch(prefix) is None:
        return id_
    found = output_ids_like(connection, tenant, prefix)
    if len(found) > 1:
        shown = ", ".join(found[: MOST - 1])
        more = " and more" if len(found) == MOST else ""
        raise InvalidInputError(
            f"expected the id of one output, got {id_!r}, which matches {shown}{more}",
            remedy="give more characters of the id",
        )
    return found[0] if found else id_


def replay_newest(stores: Stores, sample: int, *, days: int) -> "list[Replayed]":
    """Recompute a sample of the outputs of the newest days, another one on each UTC day.

    Args:
        stores: database, lake and settings.
        sample: size of the random sample.
        days: number of days up to the day of the newest output.
    """
    from surveillance_pipelines.replay.replayer import Replayer

    with stores.connect() as connection:
        replayer = Replayer(connection, stores.lake, stores.settings)
        newest = replayer.newest_day()
        since = None if newest is None else newest - timedelta(days=days - 1)
        return list(replayer.replay(replayer.sample(sample, stores.today().toordinal(), since)))
