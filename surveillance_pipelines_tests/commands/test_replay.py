"""surveillance replay."""

import json

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.commands.test_alerts import anomaly, store
from surveillance_pipelines_tests.engine.market import SESSION_ROWS, SYMBOLS, stream

INSERT = (
    "INSERT INTO ops.outbox (id, created_at, queue_url, group_id, body, run_id, row_type)"
    " VALUES (%s, now(), 'q', 'g', '{}', 'r', 'score')"
)


def test_replay_without_ids_and_without_outputs_says_what_to_do(surveillance) -> None:
    asked = surveillance("replay")
    assert asked.exit_code == ExitCode.USAGE
    nothing = surveillance("replay", "--sample", "5")
    assert nothing.exit_code == ExitCode.FAILED
    assert "no outputs to replay yet: no bar has been scored" in nothing.output
    assert "`surveillance up`" in nothing.output


def test_replay_shows_what_differs_first_and_fails_for_it(surveillance, platform, settings) -> None:
    with platform.connect() as connection:
        save_sessions(connection, session_rows(SESSION_ROWS))
    queue = platform.queue(platform.endpoints.queue_urls[0])
    queue.send([SendEntry(message.body, message.group_id, message.dedup_id) for message in stream(10)])
    quick = settings.model_copy(update={"symbols": SYMBOLS, "publish_scores": "all", "lease_seconds": 0.5})
    drain(platform.endpoints, quick, queue.queue_url, window_seconds=3)

    passed = surveillance("replay", "--sample", "8")
    assert passed.exit_code == ExitCode.OK, passed.output
    assert "8 outputs replayed: 8 equal" in passed.output

    with platform.connect() as connection:
        connection.execute("UPDATE surveillance.predictions SET anomaly_score = anomaly_score / 2 + 0.1")
        id_ = connection.execute("SELECT min(id) FROM surveillance.predictions").fetchone()[0]
    failed = surveillance("replay", id_, "--json")
    assert failed.exit_code == ExitCode.FAILED
    result = json.loads(failed.output)
    assert (result["outcome"], result["difference"]["field"]) == ("different", "score")
    assert result["summary"].startswith("score")
    assert "said" not in result
    assert "1 different" in surveillance("replay", id_[:12]).output


def test_replay_accepts_the_shortened_ids_of_alerts(surveillance, platform) -> None:
    opened, confirmed = anomaly("AAPL", 1, "volume_spike", "opened"), anomaly("AAPL", 1, "volume_spike", score=0.9)
    store(platform, opened, confirmed)
    for given, expected in (
        (opened.id[:12], opened.id),
        (confirmed.id[:6].upper(), confirmed.id),
        (confirmed.alert_id[:12], confirmed.id),
        ("000000000000", "000000000000"),
    ):
        assert json.loads(surveillance("replay", given, "--json").output)["id"] == expected


def test_replay_names_the_ids_that_an_ambiguous_prefix_matches(surveillance, platform) -> None:
    ids = [f"abcdef{number}{'0' * 57}" for number in range(7)]
    with platform.connect() as connection:
        for id_ in ids[:2]:
            connection.execute(INSERT, (id_,))
    refused = surveillance("replay", "abcdef")
    assert refused.exit_code == ExitCode.USAGE
    text = "".join(refused.output.split())
    assert f"whichmatches{ids[0]},{ids[1]}" in text
    assert "andmore" not in text
    assert "givemorecharactersoftheid" in text
    with platform.connect() as connection:
        for id_ in ids[2:]:
            connection.execute(INSERT, (id_,))
    many = "".join(surveillance("replay", "abcdef").output.split())
    assert f"{ids[4]}andmore" in many
    assert ids[5] not in many
