"""A few rows whose sums can be verified by hand, written through the contracts of the live lane."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg

from surveillance_pipelines.clock import to_us
from surveillance_pipelines.contracts.outputs import Action, Anomaly, Score, Signal, alert_id
from surveillance_pipelines.hashing import sha256_json
from surveillance_pipelines.stores.tables import ANOMALIES, PREDICTIONS, SIGNALS, Table, output_values

MONDAY = datetime(2024, 1, 15, 14, 30, tzinfo=UTC)
AFTER_MIDNIGHT = datetime(2024, 1, 16, 0, 30, tzinfo=UTC)  # still Monday in New York
MINUTE = timedelta(minutes=1)
PROBABILITIES = {"BUY": (0.6, 0.3, 0.1), "HOLD": (0.2, 0.6, 0.2), "SELL": (0.1, 0.3, 0.6)}  # buy, hold, sell


def _contract(symbol: str, start: datetime, **changes):
    values = {
        "event_time": to_us(start) + 59_000_000,
        "knowledge_time": to_us(start) + 60_000_000,
        "source": "sqs",
        "source_message_id": "m-1",
        "symbol": symbol,
        "timeframe": "1m",
        "bar_start": to_us(start),
        "revision": 0,
        "bar_status": "final",
        "input_hash": "i",
        "feature_view": "core_v1",
        "bundle_hash": "b1",
        "code_version": "1",
        "config_hash": "c",
        "runtime_hash": "r",
        "score": 0.95,
        "threshold": 0.9,
        "confidence": 0.8,
        "risk_score": 0.7,
        "explanation": {},
        "price": 100.0,
        **changes,
    }
    return {"id": sha256_json([symbol, str(start), sorted((k, str(v)) for k, v in changes.items())]), **values}


def anomaly(symbol: str, start: datetime, kind: str, status: str, **changes) -> Anomaly:
    alert = alert_id(tenant="default", symbol=symbol, timeframe="1m", bar_start=to_us(start), kind=kind)
    row = _contract(symbol, start, kind=kind, alert_status=status, **changes)
    return Anomaly(**row, alert_id=alert, volume=1_000.0)


def opened(symbol: str, start: datetime, kind: str) -> Anomaly:
    return anomaly(symbol, start, kind, "opened", bar_status="provisional", score=0.99)


def signal(symbol: str, start: datetime, action: Action) -> Signal:
    buy, hold, sell = PROBABILITIES[action]
    return Signal(
        **_contract(symbol, start, kind=action), action=action, horizon_minutes=15,
        buy_probability=buy, hold_probability=hold, sell_probability=sell,
    )  # fmt: skip


def prediction(symbol: str, start: datetime, action: str = "HOLD", **changes) -> Score:
    buy, hold, sell = PROBABILITIES[action]
    return Score(
        **_contract(symbol, start, kind="normal", **changes), volume=1_000.0, is_anomaly=False,
        reconstruction_error=0.1, horizon_minutes=15, buy_probability=buy, hold_probability=hold,
        sell_probability=sell,
    )  # fmt: skip


def published(row: Anomaly) -> Anomaly:
    """Return a row that was committed 100 ms after 14:30 and published 30 ms later."""
    committed = to_us(MONDAY) + 100_000
    return replace(row, t_committed=committed, t_published=committed + 30_000)


ALERT_ROWS = [
    # AAPL volume_spike: one confirmed, one retracted
    opened("AAPL", MONDAY, "volume_spike"),
    anomaly("AAPL", MONDAY, "volume_spike", "confirmed", score=0.93),
    opened("AAPL", MONDAY + MINUTE, "volume_spike"),
    anomaly("AAPL", MONDAY + MINUTE, "volume_spike", "retracted", score=0.2),
    # AAPL price_gap: the bar is still in progress
    opened("AAPL", MONDAY + 2 * MINUTE, "price_gap"),
    # MSFT volume_spike: confirmed at the close by the clock, without a message; retracted by a late tick
    published(
        anomaly(
            "MSFT",
            MONDAY,
            "volume_spike",
            "confirmed",
            source_message_id="m-long-before",
            correlation_id="m-long-before",
        )
    ),
    anomaly("MSFT", MONDAY, "volume_spike", "retracted", revision=1, bar_status="revised"),
    # another UTC day, from the warm-up heuristics
    anomaly("AAPL", AFTER_MIDNIGHT, "ramping", "confirmed", warmup=True, source="yfinance", fallback_used=True),
]

SIGNAL_ACTIONS: list[Action] = ["BUY", "BUY", "BUY", "SELL", "HOLD"]  # of AAPL, one per minute from MONDAY
OUTCOMES = [(0.002, "BUY"), (-0.001, "SELL"), None, (-0.003, "SELL"), None]  # return, actual direction


def _latency_predictions() -> list[Score]:
    """Compute takes 1, 2, … 100 ms, the commit another 2 ms."""
    received = to_us(MONDAY)
    return [
        prediction(
            "SPY", MONDAY + k * MINUTE, t_received=received, t_computed=received + k * 1_000,
            t_committed=received + (k + 2) * 1_000,
        )
        for k in range(1, 101)
    ]  # fmt: skip


def _published_anomaly() -> Anomaly:
    return published(
        anomaly("SPY", MONDAY, "ramping", "confirmed", source_message_id="m-last-tick", correlation_id="m-published")
    )


def _insert(connection: psycopg.Connection, table: Table, rows) -> None:
    connection.execute(table.insert, table.parameters([output_values(row, table.columns) for row in rows]))


def insert_outputs(connection: psycopg.Connection) -> None:
    starts = [MONDAY + k * MINUTE for k in range(len(SIGNAL_ACTIONS))]
    _insert(connection, ANOMALIES, [*ALERT_ROWS, _published_anomaly()])
    calls = list(zip(starts, SIGNAL_ACTIONS, strict=True))
    _insert(connection, SIGNALS, [signal("AAPL", start, action) for start, action in calls])
    predictions = [prediction("AAPL", start, action) for start, action in calls]
    _insert(connection, PREDICTIONS, [*predictions, *_latency_predictions()])
    for row, outcome in zip(predictions, OUTCOMES, strict=True):
        if outcome is not None:
            connection.execute(
                "UPDATE surveillance.predictions SET outcome_return = %s, outcome_direction = %s, outcome_at = %s "
                "WHERE id = %s",
                (*outcome, MONDAY + 16 * MINUTE, row.id),
            )


def insert_reference(connection: psycopg.Connection) -> None:
    for symbol in ("AAPL", "MSFT", "SPY"):
        connection.execute(
            "INSERT INTO surveillance.instruments (symbol, asset_class, calendar, added_at, source) "
            "VALUES (%s, 'equity', 'XNYS', %s, 'file')",
            (symbol, MONDAY),
        )


def insert_metrics(connection: psycopg.Connection) -> None:
    version = UUID(int=1)
    connection.execute(
        "INSERT INTO surveillance.model_versions (id, version, strategy_id, model_type, bundle_hash, path, trained_at, "
        "training_duration_seconds, training_dataset_size, created_at, updated_at) "
        "VALUES (%s, 'v1', 'surveillance', 'ensemble', 'b1', '/models/v1', %s, 12, 5000, %s, %s)",
        (version, MONDAY, MONDAY, MONDAY),
    )
    roles = [("challenger", 0.1, MONDAY, AFTER_MIDNIGHT), ("champion", 1.0, AFTER_MIDNIGHT, None)]
    for role, share, since, until in roles:
        connection.execute(
            "INSERT INTO surveillance.deployments (tenant, strategy, kind, model_id, version, model_version_id, role, "
            "traffic_share, since, until, decided_by, reasons) "
            "VALUES ('default', 'surveillance', 'bundle', 'b1', 'v1', %s, %s, %s, %s, %s, 'training_job', %s)",
            (version, role, share, since, until, ["gate passed", "by hand"]),
        )
    wednesday = datetime(2024, 1, 17, 10, 5, tzinfo=UTC)
    measured = [(wednesday, 0.8), (wednesday + 40 * MINUTE, 0.9), (wednesday + 2 * 60 * MINUTE, 0.7),
                (wednesday + timedelta(days=7), 0.5)]  # fmt: skip
    for number, (when, value) in enumerate(measured):
        connection.execute(
            "INSERT INTO surveillance.model_metrics (id, model_version_id, model, split, metric_name, metric_value, "
            "metric_type, evaluated_at, evaluation_dataset_size) "
            "VALUES (%s, %s, 'classifier', 'test', 'accuracy', %s, 'classification', %s, 1000)",
            (UUID(int=10 + number), version, value, when),
        )


def insert_books(connection: psycopg.Connection) -> None:
    """Ten messages in two minutes (seven and three), three dead letters, three ingestion runs, one from Yahoo."""
    outcomes = ["scored"] * 6 + ["late", "dead", "dead", "duplicate"]
    for number, outcome in enumerate(outcomes):
        at = MONDAY + (0 if number < 7 else 1) * MINUTE
        connection.execute(
            "INSERT INTO ops.ledger (message_id, queue_url, outcome, committed_at) VALUES (%s, 'q', %s, %s)",
            (f"m-{number}", outcome, at),
        )
    dead = [("m-7", "sqs", "not_json"), ("m-8", "sqs", "not_json"), ("f-1", "file", "missing_field")]
    for message, source, code in dead:
        connection.execute(
            "INSERT INTO ops.dead_letters (message_id, source, body, code, reason, received_at, replayed_at) "
            "VALUES (%s, %s, '{', %s, 'expected JSON', %s, %s)",
            (message, source, code, MONDAY, MONDAY if message == "m-7" else None),
        )
    fallback, by_hand = '{"AAPL": "ok", "fallback": true}', '{"interval": "1m"}'
    for run, source, landed, detail in [
        ("r-1", "yfinance", 40, fallback), ("r-2", "yfinance", 60, by_hand), ("r-3", "file", 100, "{}"),
    ]:  # fmt: skip
        connection.execute(
            "INSERT INTO surveillance.ingestion_runs (id, source, started_at, rows_in, rows_landed, detail) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (run, source, MONDAY, landed, landed, detail),
        )
    for message, received_at in (("m-published", MONDAY), ("m-long-before", MONDAY - timedelta(seconds=40))):
        connection.execute(
            "INSERT INTO ops.inbox (message_id, queue_url, body, sent_at, received_at, receive_count) "
            "VALUES (%s, 'q', '{}', %s, %s, 1)",
            (message, received_at - timedelta(milliseconds=370), received_at),
        )


def insert_everything(connection: psycopg.Connection) -> None:
    for insert in (insert_reference, insert_outputs, insert_metrics, insert_books):
        insert(connection)
