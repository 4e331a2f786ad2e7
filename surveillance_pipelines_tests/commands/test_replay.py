"""surveillance replay."""

import json

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.contracts.frames import session_rows
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.runtime.drain import drain
from surveillance_pipelines.stores.sessions import save_sessions
from surveillance_pipelines_tests.engine.market import SESSION_ROWS, SYMBOLS, stream


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
    assert "1 different" in surveillance("replay", id_).output
