"""Outbox rows as calls: groups stay in order, and ``t_published`` is stamped."""

from dataclasses import replace

from surveillance_pipelines.runtime.send_calls import ordered_calls, send_entries
from surveillance_pipelines.stores.outbox import OutboxRow, outbox_rows
from surveillance_pipelines_tests.engine.market import stream
from surveillance_pipelines_tests.engine.test_engine import feed, make_engine
from surveillance_pipelines_tests.stores.test_outbox import AT


def test_calls_have_at_most_one_row_per_group_and_keep_the_order_of_each():
    rows = [OutboxRow(str(i), group, "score", "{}") for i, group in enumerate("AABACBA")]
    calls = ordered_calls(rows)
    assert [[row.id for row in call] for call in calls] == [["0", "2", "4"], ["1", "5"], ["3"], ["6"]]
    assert ordered_calls([]) == []


def test_stamp_changes_the_field_itself_and_nothing_else():
    effects = feed(make_engine(), [stream(60)]).stamped(committed_at=AT)
    for row in outbox_rows(effects, "scores"):
        (entry,) = send_entries([row], published_at=AT)
        assert entry.body == row.body.replace('"t_published":null', '"t_published":"2024-03-05T12:00:00.000000Z"')
        assert f'"type":"{row.row_type}"' in row.body


def test_stamp_ignores_a_field_of_that_name_inside_another():
    row = OutboxRow("a", "SPY", "anomaly", '{"explanation":{"t_published":null},"t_published":null,"type":"anomaly"}')
    (entry,) = send_entries([replace(row)], published_at=AT)
    assert entry.body.startswith('{"explanation":{"t_published":null},"t_published":"2024')
