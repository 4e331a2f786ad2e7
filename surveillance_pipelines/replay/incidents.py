"""Replay of incidents: the alerts on record are grouped again, and the row is compared. No I/O."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from surveillance_pipelines.contracts.outputs import Anomaly, Incident
from surveillance_pipelines.engine.incidents import Incidents
from surveillance_pipelines.replay.comparison import Difference, StoredOutput, first_difference


def alert_of(values: Mapping[str, Any]) -> Anomaly:
    """Return a stored alert row; instants are microseconds since the epoch."""
    return Anomaly(**values)


def incident_difference(
    output: StoredOutput, alerts: Sequence[Anomaly], *, gap: int, same_runtime: bool
) -> Difference | None:
    """Return the first field in which an incident differs from the one that its alerts give.

    Args:
        output: the stored row of the incident.
        alerts: alert rows of its symbol, tenant, strategy and UTC day, in any order.
        gap: microseconds without an alert after which an incident is over.
        same_runtime: compare bit for bit.
    """
    rebuilt = {row.id: row for row in _incidents(alerts, gap)}.get(output.id)
    if rebuilt is not None:
        return first_difference(output, rebuilt, same_runtime=same_runtime)
    found = f"{len(alerts)} alerts of the symbol on that day are on record, and they give no such row"
    return Difference("incident_status", output.values["incident_status"], None, found)


def _incidents(alerts: Sequence[Anomaly], gap: int) -> list[Incident]:
    incidents = Incidents()
    rows: list[Incident] = []
    for (start, is_closed), group in groupby(sorted(alerts, key=_order), key=lambda row: _order(row)[:2]):
        of_bar = list(group)
        status = "final" if is_closed else "provisional"
        rows += incidents.on_bar(start, status, of_bar[0].bundle_hash, of_bar, gap=gap)
    return rows + incidents.close()


def _order(row: Anomaly) -> tuple[int, bool, int, int, str, str]:
    """Return the sort key of rows in the order in which they were decided."""
    return (
        row.bar_start, row.bar_status != "provisional", row.t_received or 0, row.event_time, row.alert_status, row.id
    )  # fmt: skip
