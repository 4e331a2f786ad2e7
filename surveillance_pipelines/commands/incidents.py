"""``surveillance incidents``: list incidents, show one, and record what a person decided about it."""

import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from surveillance_pipelines.commands.console import counted, echo, price_cell, table
from surveillance_pipelines.commands.data_incidents import show_data_incidents
from surveillance_pipelines.commands.listing import first_and_last_day, json_instant, minute
from surveillance_pipelines.contracts.outputs import SEVERITIES, Disposition, IncidentStatus, Severity

if TYPE_CHECKING:
    from surveillance_pipelines.services.incidents import IncidentDetails, IncidentList

app: Final = typer.Typer(help="List incidents (alerts of one cause), show one, and record a decision about it.")

_DAY: Final = ["%Y-%m-%d"]
_SHOWN_ID: Final = 12
_COLUMNS: Final = (
    "id", "from (UTC)", "minutes", "symbol", "severity", "status", "kind", "alerts", "move", "score", "decision",
)  # fmt: skip
_STYLES: Final = {"high": "red", "medium": "yellow", "low": "dim", "opened": "yellow", "retracted": "dim"}


@app.callback(invoke_without_command=True)
def incidents(
    context: typer.Context,
    *,
    symbols: Annotated[str, typer.Option(help="Show only these symbols, separated by commas.")] = "",
    min_severity: Annotated[Severity, typer.Option(help="Show only incidents of at least this severity.")] = "low",
    status: Annotated[IncidentStatus | None, typer.Option(help="Show only incidents with this status.")] = None,
    undecided: Annotated[bool, typer.Option("--undecided", help="Show only those nobody has decided about.")] = False,
    retracted: Annotated[bool, typer.Option("--retracted", help="Also show retracted incidents.")] = False,
    day: Annotated[datetime | None, typer.Option(formats=_DAY, help="Show only those of this UTC day.")] = None,
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="Show only those from this UTC day on.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Show only those up to this UTC day, included.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many incidents.")] = 20,
    data: Annotated[
        bool, typer.Option("--data", help="List data incidents instead: silent feeds, missing bars, possible splits.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, with full ids.")] = False,
) -> None:
    """List incidents, newest first (`surveillance incidents show ID` shows one)."""
    if context.invoked_subcommand is not None:
        return
    from surveillance_pipelines.services.incidents import IncidentFilter, list_incidents
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    first, last = first_and_last_day(day, since, until)
    if data:
        if unused := _market_filters(min_severity, status, undecided=undecided, retracted=retracted):
            raise typer.BadParameter(f"expected no {unused}, which data incidents do not have", param_hint="--data")
        show_data_incidents(symbols, first, last, limit, as_json=as_json)
        return
    conditions = IncidentFilter(
        symbols=require_symbols(symbols.split(",")),
        severities=SEVERITIES[SEVERITIES.index(min_severity) :],
        status=status,
        undecided=undecided,
        since=first,
        until=last,
        retracted=retracted,
    )
    found = list_incidents(open_platform(), conditions, limit)
    if as_json:
        sys.stdout.writelines(json.dumps(asdict(each), default=json_instant) + "\n" for each in found.incidents)
    elif found.incidents:
        _show_list(found)
    elif found.existing:
        echo(f"no incident matches the filter; there are {found.existing:,} in all, retracted ones included")
    else:
        echo("no incidents yet: `surveillance alerts` tells whether any bar was anomalous")


@app.command("show")
def show_incident(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of an incident or of one of its rows, or a prefix.")],
) -> None:
    """Show one incident: what happened, its alerts, similar earlier incidents, and decisions."""
    from surveillance_pipelines.services.incidents import find_incident
    from surveillance_pipelines.services.platform import open_platform

    _show(find_incident(open_platform(), id_.strip().lower()))


@app.command("decide")
def decide(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of an incident or of one of its rows, or a prefix.")],
    disposition: Annotated[Disposition, typer.Argument(help="What the incident was.")],
    by: Annotated[str, typer.Option("--by", help="Who decided.", envvar="USER")],
    note: Annotated[str | None, typer.Option(help="Reason, kept with the decision.")] = None,
) -> None:
    """Record what a person decided about an incident. Earlier decisions are kept; the newest holds."""
    from surveillance_pipelines.services.incidents import decide_incident
    from surveillance_pipelines.services.platform import open_platform

    details = decide_incident(open_platform(), id_.strip().lower(), disposition, note=note, decided_by=by)
    echo(f"recorded {disposition} for incident {details.row['incident_id'][:_SHOWN_ID]}, decided by {by}")


def _market_filters(min_severity: Severity, status: IncidentStatus | None, *, undecided: bool, retracted: bool) -> str:
    """Return the option that only incidents of the market have, if it is used; else empty."""
    used = {
        "--min-severity": min_severity != "low",
        "--status": status is not None,
        "--undecided": undecided,
        "--retracted": retracted,
    }
    return next((name for name, is_used in used.items() if is_used), "")


def _show_list(found: "IncidentList") -> None:
    from surveillance_pipelines.services.incidents import MAX_COUNT

    rows = [
        (
            each.incident_id[:_SHOWN_ID],
            minute(each.first_bar_start),
            _minutes(each.first_bar_start, each.last_bar_start),
            each.symbol,
            _styled(each.severity),
            _styled(each.incident_status),
            each.kind,
            each.alerts,
            _move(each.first_price, each.price),
            each.score,
            each.disposition or "",
        )
        for each in found.incidents
    ]
    shown = len(rows)
    total = f"more than {MAX_COUNT:,}" if found.matching is None else f"{found.matching:,}"
    title = counted(shown, "incident") if shown == found.matching else f"newest {shown:,} of {total} incidents"
    table(title, _COLUMNS, rows, right=("minutes", "alerts", "move", "score"))
    echo("show one: `surveillance incidents show ID`; record a decision: `surveillance incidents decide ID …`")


def _show(details: "IncidentDetails") -> None:
    row = details.row
    table(f"incident {row['incident_id'][:_SHOWN_ID]}", ("", ""), _facts(details))
    columns = ("bar (UTC)", "kind", "score", "price", "volume", "why")
    alerts = [
        (minute(each["bar_start"]), each["kind"], each["score"], price_cell(each["price"]), each["volume"],
         each["summary"] or "")
        for each in details.alerts
    ]  # fmt: skip
    more = "" if len(alerts) == row["alerts"] else f", the first {len(alerts):,} of {row['alerts']:,}"
    table(f"confirmed alerts{more}", columns, alerts, right=("score", "price", "volume"))
    if details.similar:
        similar = [
            (each["incident_id"][:_SHOWN_ID], minute(each["first_bar_start"]), each["symbol"], each["severity"],
             each["score"], each["alerts"], each["disposition"] or "undecided", each["note"] or "")
            for each in details.similar
        ]  # fmt: skip
        columns = ("id", "from (UTC)", "symbol", "severity", "score", "alerts", "decision", "note")
        table(f"earlier incidents of the kind {row['kind']}", columns, similar, right=("score", "alerts"))
    if details.dispositions:
        decided = [
            (minute(each["decided_at"]), each["disposition"], each["decided_by"], each["note"] or "")
            for each in details.dispositions
        ]
        table("decisions, the one that holds last", ("at (UTC)", "decision", "by", "note"), decided)
    steps = [
        (each["incident_status"], each["severity"], each["alerts"], each["event_time"], each["t_published"])
        for each in details.history
    ]
    table("steps, the current one last", ("status", "severity", "alerts", "event time", "published"), steps)
    if details.alerts:
        echo(f"explain its first alert: `surveillance alerts show {details.alerts[0]['alert_id'][:_SHOWN_ID]}`")
    echo(f"recompute it from its alerts: `surveillance replay {row['id']}`")


def _facts(details: "IncidentDetails") -> list[tuple[str, Any]]:
    row = details.row
    facts = [
        ("what", details.sentence),
        ("why", row["explanation"].get("summary", "")),
        ("severity", _styled(row["severity"])),
        ("status", _styled(row["incident_status"])),
        ("highest score", f"{row['score']:.4g} ({row['kind']}); the threshold is {row['threshold']:.4g}"),
        ("models", "the warm-up rules" if row["warmup"] else f"bundle {row['bundle_hash'][:8]}"),
        ("tenant", f"{row['tenant']}, strategy {row['strategy']}"),
    ]
    if details.split is not None:
        facts.append(("data", f"{details.split}: a data incident, so this is not a price gap of the market"))
    outside = row["explanation"].get("outside_training")
    if outside:
        named = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in outside.items())
        facts.append(("training data", f"outside: the models were not trained on {named}, so the scores mean little"))
    return facts


def _minutes(first: datetime, last: datetime) -> int:
    return int((last - first).total_seconds() // 60) + 1


def _move(first: float, last: float) -> str:
    return f"{last / first - 1.0:+.2%}" if first else ""


def _styled(word: str) -> Text:
    return Text(word, style=_STYLES.get(word, ""))
