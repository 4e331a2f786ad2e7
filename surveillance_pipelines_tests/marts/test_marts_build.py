"""`dbt build`, run by Dagster on PostgreSQL, produces the values expected from the inserted rows."""

from datetime import UTC, date, datetime

import pytest
from psycopg.rows import dict_row

from surveillance_pipelines.stores.database import connect

# dagster-dbt 0.29 uses its context in a way that Dagster 1.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*AssetExecutionContext:DeprecationWarning:dagster_dbt")

MONDAY, TUESDAY = date(2024, 1, 15), date(2024, 1, 16)


@pytest.fixture
def read(built_marts):
    """Return the rows of a mart as dicts."""

    def read(mart, where, order="1"):
        with connect(built_marts.database_url) as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(f"SELECT * FROM marts.{mart} WHERE {where} ORDER BY {order}".encode()).fetchall()

    return read


def only(rows):
    assert len(rows) == 1, rows
    return rows[0]


def test_anomalies_mart_counts_each_alert_once_by_its_latest_status(read):
    spike = only(read("anomalies_by_symbol_day_kind", "symbol = 'AAPL' AND kind = 'volume_spike'"))
    assert (spike["alerts"], spike["confirmed_alerts"], spike["retracted_alerts"], spike["open_alerts"]) == (2, 1, 1, 0)
    assert (spike["max_score"], spike["asset_class"]) == (0.99, "equity")
    assert spike["mean_score"] == pytest.approx((0.93 + 0.2) / 2)
    gap = only(read("anomalies_by_symbol_day_kind", "symbol = 'AAPL' AND kind = 'price_gap'"))
    assert (gap["alerts"], gap["open_alerts"]) == (1, 1)


def test_anomalies_mart_revision_takes_precedence_over_the_close(read):
    spike = only(read("anomalies_by_symbol_day_kind", "symbol = 'MSFT'"))
    assert (spike["confirmed_alerts"], spike["retracted_alerts"]) == (0, 1)


def test_anomalies_mart_day_is_the_utc_date_in_any_session_time_zone(read):
    ramping = only(read("anomalies_by_symbol_day_kind", "symbol = 'AAPL' AND kind = 'ramping'"))
    assert ramping["day"] == TUESDAY
    assert (ramping["warmup_alerts"], ramping["fallback_alerts"]) == (1, 1)


def test_alerts_keep_when_they_were_opened_and_retracted(read):
    retracted = only(read("int_alerts", "symbol = 'MSFT'"))
    assert retracted["retracted_at"] is not None
    confirmed = only(read("int_alerts", "symbol = 'SPY'"))
    assert confirmed["retracted_at"] is None
    assert confirmed["confirmed_at"] == datetime(2024, 1, 15, 14, 30, 0, 100_000, tzinfo=UTC)


def test_signal_quality_mart_uses_known_outcomes_only(read):
    buy = only(read("signal_quality", "action = 'BUY'"))
    assert (buy["signals"], buy["outcomes_known"], buy["hits"], buy["hit_rate"]) == (3, 2, 1, 0.5)
    assert buy["mean_forward_return"] == pytest.approx(0.0005)
    hold = only(read("signal_quality", "action = 'HOLD'"))
    assert (hold["signals"], hold["outcomes_known"], hold["hit_rate"]) == (1, 0, None)


def test_signal_quality_mart_counts_a_fall_as_correct_for_sell(read):
    sell = only(read("signal_quality", "action = 'SELL'"))
    assert (sell["hit_rate"], sell["mean_forward_return"], sell["mean_directed_return"]) == (1, -0.003, 0.003)


def test_metrics_mart_averages_by_hour_day_and_week(read):
    hours = read("model_metrics_series", "granularity = 'hour'", "period_start")
    assert [row["mean_value"] for row in hours] == pytest.approx([0.85, 0.7, 0.5])
    assert (hours[0]["last_value"], hours[0]["evaluations"], hours[0]["evaluated_rows"]) == (0.9, 2, 2000)
    days = read("model_metrics_series", "granularity = 'day'", "period_start")
    assert [row["mean_value"] for row in days] == pytest.approx([0.8, 0.5])
    weeks = read("model_metrics_series", "granularity = 'week'", "period_start")
    assert [row["period_start"].date() for row in weeks] == [MONDAY, date(2024, 1, 22)]
    assert {row["model_version"] for row in weeks} == {"v1"}


@pytest.mark.requirement("MON-08")
def test_latency_mart_stages_have_their_percentiles(read):
    stages = {row["stage"]: row for row in read("serving_latency_by_hour", "hour_start = '2024-01-15 14:00+00'")}
    compute = stages["compute"]
    assert compute["messages"] == 100
    assert [compute[name] for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")] == pytest.approx(
        [50.5, 95.05, 99.01, 100]
    )
    assert stages["commit"]["p99_ms"] == pytest.approx(2)
    assert stages["publish"]["p50_ms"] == pytest.approx(30)
    assert stages["wait"]["p50_ms"] == pytest.approx(370)
    assert stages["queue_to_queue"]["p50_ms"] == pytest.approx(500)


@pytest.mark.requirement("MON-08")
def test_ingestion_mart_measures_rate_outcomes_fallback_and_anomaly_rate(read):
    monday = only(read("ingestion_health_by_day", f"day = '{MONDAY}'"))
    assert [monday[name] for name in ("messages", "scored", "late", "dead", "duplicate")] == [10, 6, 1, 2, 1]
    assert (monday["mean_messages_per_minute"], monday["peak_messages_per_minute"]) == (5, 7)
    assert (monday["ingestion_runs"], monday["fallback_runs"], monday["fallback_rows"]) == (3, 1, 40)
    assert monday["fallback_run_share"] == pytest.approx(1 / 3)
    assert (monday["bars_scored"], monday["anomalous_bars"]) == (105, 3)
    assert monday["anomaly_rate"] == pytest.approx(3 / 105)


def test_ingestion_mart_day_without_scored_bars_has_no_anomaly_rate(read):
    tuesday = only(read("ingestion_health_by_day", f"day = '{TUESDAY}'"))
    assert (tuesday["anomalous_bars"], tuesday["anomaly_rate"], tuesday["messages"]) == (1, None, 0)


@pytest.mark.requirement("MON-08")
def test_dead_letter_mart_counts_by_source_and_code(read):
    letters = {(row["source"], row["code"]): row for row in read("dead_letters_by_day", "true")}
    assert letters["sqs", "not_json"]["dead_letters"] == 2
    assert letters["sqs", "not_json"]["replayed"] == 1
    assert letters["file", "missing_field"]["dead_letters"] == 1


def test_build_every_model_is_materialized_and_every_check_passes(built_marts, marts_definitions):
    models = {key.path[-1] for key in marts_definitions.resolve_asset_graph().materializable_asset_keys}
    assert set(built_marts.row_counts) == models
    assert len(built_marts.checks) >= 50
    assert [name for name, passed in built_marts.checks.items() if not passed] == []


def test_build_table_materializations_carry_row_counts(built_marts):
    assert built_marts.row_counts["signal_quality"] == 3
    assert built_marts.row_counts["dead_letters_by_day"] == 2
    assert built_marts.row_counts["stg_signals"] is None


def test_build_column_docs_become_comments_in_postgresql(built_marts):
    with connect(built_marts.database_url) as connection:
        found = connection.execute(
            "SELECT count(*), count(col_description(attrelid, attnum)) FROM pg_attribute "
            "JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'marts'::regnamespace "
            "AND relkind IN ('r', 'v') AND attnum > 0"
        ).fetchone()
    assert found is not None
    columns, described = found
    assert columns == described > 200


def test_deployments_mart_has_each_role_and_derives_the_active_version(read):
    challenger, champion = read("model_deployments", "model_version = 'v1'", "since")
    assert (challenger["role"], challenger["traffic_share"], challenger["is_open"]) == ("challenger", 0.1, False)
    assert (champion["role"], champion["until"], champion["reasons"]) == ("champion", None, "gate passed; by hand")
    assert only(read("stg_model_versions", "version = 'v1'"))["is_active"] is True
