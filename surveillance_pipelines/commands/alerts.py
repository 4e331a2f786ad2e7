"""``surveillance alerts``: list and explain alerts, without reading a queue."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from surveillance_pipelines.commands.console import counted, echo, price_cell, table
from surveillance_pipelines.commands.listing import first_and_last_day, json_instant, minute
from surveillance_pipelines.contracts.outputs import AlertStatus
from surveillance_pipelines.contracts.text import listed

if TYPE_CHECKING:
    from surveillance_pipelines.services.alerts import AlertDetails, AlertList

app: Final = typer.Typer(help="List alerts, newest first, and explain one. No queue is read.")

_DAY: Final = ["%Y-%m-%d"]
_SHOWN_ID: Final = 12
_LISTED: Final = 10
"""Maximum number of symbols in a sentence."""
_COLUMNS: Final = (
    "id", "bar (UTC)", "symbol", "kind", "status", "score", "confidence", "price", "by", "training",
)  # fmt: skip
_STYLES: Final = {"opened": "yellow", "confirmed": "red", "retracted": "dim"}
_PRICES: Final = ("open", "high", "low", "close")


@app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    *,
    symbols: Annotated[str, typer.Option(help="Show only these symbols, separated by commas.")] = "",
    kind: Annotated[str | None, typer.Option(help="Show only this kind, such as volume_spike.")] = None,
    status: Annotated[AlertStatus | None, typer.Option(help="Show only alerts with this status.")] = None,
    day: Annotated[datetime | None, typer.Option(formats=_DAY, help="Show only bars of this UTC day.")] = None,
    since: Annotated[datetime | None, typer.Option(formats=_DAY, help="Show only bars from this UTC day on.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Show only bars up to this UTC day, included.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Show only alerts with at least this score.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many alerts.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, with full ids.")] = False,
) -> None:
    """List alerts, newest first, and explain one (`surveillance alerts show ID`).

    Reads the database only: messages stay on the output queue, unlike with `tail`.
    """
    if context.invoked_subcommand is not None:
        return
    from surveillance_pipelines.services.alerts import AlertFilter, list_alerts
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    first, last = first_and_last_day(day, since, until)
    conditions = AlertFilter(
        symbols=require_symbols(symbols.split(",")),
        kind=kind,
        status=status,
        since=first,
        until=last,
        min_score=min_score,
    )
    found = list_alerts(open_platform(), conditions, limit)
    if as_json:
        sys.stdout.writelines(json.dumps(asdict(alert), default=json_instant) + "\n" for alert in found.alerts)
    elif found.alerts:
        _show_list(found)
    else:
        _show_none(found)


@app.command("show")
def show_alert(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a row or of an alert, or a unique prefix.")],
) -> None:
    """Explain one alert: its bar, score and threshold, the reasons, the models, and all rows of the alert."""
    from surveillance_pipelines.services.alerts import explain_alert
    from surveillance_pipelines.services.platform import open_platform

    details = explain_alert(open_platform(), id_.strip().lower())
    row = details.row
    table(f"alert: {row['kind']} in {row['symbol']}, bar of {minute(row['bar_start'])}", ("", ""), _facts(details))
    if details.summary:
        echo(f"why: {details.summary}")
    for part in details.explanation:
        table(part.title, part.columns, part.rows, right=part.numbers)
    table("provenance", ("", ""), _provenance(row))
    table("rows of this alert, the current one last", _HISTORY, [_history(each, row["id"]) for each in details.history])
    echo(f"recompute this row and compare it: `surveillance replay {row['id']}`")


def _show_list(found: "AlertList") -> None:
    from surveillance_pipelines.services.alerts import MAX_COUNT

    rows = [
        (
            alert.id[:_SHOWN_ID],
            minute(alert.bar_start),
            alert.symbol,
            alert.kind,
            _status(alert.alert_status),
            alert.score,
            alert.confidence,
            price_cell(alert.price),
            "warm-up" if alert.warmup else alert.bundle_hash[:8],
            "outside" if alert.outside_training else "",
        )
        for alert in found.alerts
    ]
    shown = len(rows)
    total = f"more than {MAX_COUNT:,}" if found.matching is None else f"{found.matching:,}"
    title = counted(shown, "alert") if shown == found.matching else f"newest {shown:,} of {total} alerts"
    noted = any(alert.outside_training for alert in found.alerts)
    columns = _COLUMNS if noted else _COLUMNS[:-1]
    table(title, columns, [row[: len(columns)] for row in rows], right=("score", "confidence", "price"))
    echo("explain one: `surveillance alerts show ID`")


def _show_none(found: "AlertList") -> None:
    known = found.existing
    if known is None:
        echo("no alerts yet: no bar has been scored, or none was anomalous")
        echo("score stored days: `surveillance backfill FIRST LAST --job scoring_job`")
        echo("score live ticks: `surveillance up`; the bars of a file: `surveillance detect FILE`")
        return
    echo(f"no alert matches the filter. There {'is' if known.alerts == 1 else 'are'} {counted(known.alerts, 'alert')}:")
    table(
        "",
        ("", ""),
        [
            ("bars", f"{minute(known.first)} to {minute(known.last)}"),
            ("symbols", listed(known.symbols, _LISTED)),
            ("kinds", ", ".join(known.kinds)),
            ("highest score", known.highest_score),
        ],
    )


def _facts(details: "AlertDetails") -> list[tuple[str, Any]]:
    row = details.row
    verdict = "reaches" if row["score"] >= row["threshold"] else "is below"
    facts = [
        ("status", _status(row["alert_status"])),
        ("score", f"{row['score']:.4g}, {verdict} the threshold {row['threshold']:.4g}"),
        ("kind", f"{row['kind']}, confidence {row['confidence']:.4g}"),
        ("risk", f"{row['risk_score']:.4g} (score × confidence)"),
        ("scored at", f"price {price_cell(row['price'])}, volume {row['volume']:,.6g}, bar {_progress(row)}"),
        ("bar", _bar(details.bar)),
        ("models", details.model),
    ]
    if details.training is not None:
        facts.append(("training data", details.training))
    if row["fallback_used"]:
        facts.append(("fallback", "a missing input or an excluded model was replaced by a substitute"))
    return facts


def _progress(row: Mapping[str, Any]) -> str:
    return "in progress" if row["bar_status"] == "provisional" else "closed"


def _bar(bar: Mapping[str, Any] | None) -> str:
    if bar is None:
        return "not stored: the bar is still in progress, or was dropped"
    prices = ", ".join(f"{name} {price_cell(bar[name])}" for name in _PRICES)
    volume = "not reported" if bar["volume"] is None else f"{bar['volume']:,.6g}"
    return f"{prices}, volume {volume} (source {bar['source']})"


def _provenance(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = (
        "id", "alert_id", "source", "source_message_id", "event_time", "knowledge_time", "t_received", "t_committed",
        "t_published", "run_id", "correlation_id", "tenant", "strategy", "schema_version", "feature_view",
        "bundle_hash", "config_hash", "code_version", "runtime_hash", "input_hash",
    )  # fmt: skip
    lane = "batch scoring" if row["t_received"] is None else "live"
    return [("lane", lane), *((name, row[name]) for name in names if row[name] is not None)]


_HISTORY: Final = ("", "id", "status", "bar", "score", "price", "event time", "models")


def _history(row: Mapping[str, Any], shown: str) -> tuple[Any, ...]:
    models = "warm-up" if row["warmup"] else row["bundle_hash"][:8]
    return (
        "→" if row["id"] == shown else "", row["id"][:_SHOWN_ID], _status(row["alert_status"]), _progress(row),
        row["score"], price_cell(row["price"]), row["event_time"], models,
    )  # fmt: skip


def _status(status: str) -> Text:
    return Text(status, style=_STYLES.get(status, ""))
