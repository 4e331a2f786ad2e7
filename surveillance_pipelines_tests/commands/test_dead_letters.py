"""``surveillance dead-letters``: list, show, repair, replay."""

import pytest

from surveillance_pipelines.clock import SYSTEM_CLOCK, now
from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.services.platform import Platform

BROKEN = '{"symbol":"aapl","price":150.25,"volume":100,"timestamp":"2024-03-05T14:30:01Z","note":"' + "x" * 300 + '"}'
LETTER = "0c1d2e3f-0000-4000-8000-000000000001"


@pytest.fixture
def letter(platform: Platform) -> str:
    """One refused message of the input queue."""
    with platform.connect() as connection:
        connection.execute(
            "INSERT INTO ops.dead_letters (message_id, queue_url, body, code, reason, received_at) "
            "VALUES (%s, %s, %s, 'bad_symbol', 'expected upper case', %s)",
            (LETTER, platform.endpoints.queue_urls[0], BROKEN, now(SYSTEM_CLOCK)),
        )
    return LETTER


def waiting(platform: Platform) -> int:
    return platform.queue(platform.endpoints.queue_urls[0]).depth().visible


def test_list_names_ids_and_show_gives_the_whole_body(surveillance, letter, tmp_path) -> None:
    listed = surveillance("dead-letters", "list")
    assert listed.exit_code == 0, listed.output
    assert "bad_symbol" in listed.output
    assert letter[:6] in listed.output
    shown = surveillance("dead-letters", "show", letter[:8])
    assert shown.output.replace("\n", "").endswith(BROKEN)
    assert surveillance("dead-letters", "show", letter, "--out", tmp_path / "body.json").exit_code == 0
    assert (tmp_path / "body.json").read_text() == BROKEN


def test_replay_of_a_repaired_body_is_sent_once_and_shown(surveillance, platform, letter, tmp_path) -> None:
    (tmp_path / "body.json").write_text(BROKEN.replace("aapl", "AAPL") + "\n")
    repaired = ("dead-letters", "replay", letter, "--edit-body", tmp_path / "body.json")
    assert "would be sent: AAPL" in surveillance(*repaired, "--dry-run").output
    assert waiting(platform) == 0
    answer = surveillance(*repaired)
    assert answer.exit_code == 0, answer.output
    assert "sent as " in answer.output
    again = surveillance(*repaired)
    assert again.exit_code == 0
    assert "replayed with this body before" in " ".join(again.output.split())
    assert waiting(platform) == 1
    (message,) = platform.queue(platform.endpoints.queue_urls[0]).receive(visibility_seconds=5)
    assert (message.group_id, message.body) == ("AAPL", BROKEN.replace("aapl", "AAPL"))
    assert message.message_id in surveillance("dead-letters", "show", letter).output


def test_replay_of_what_would_be_refused_again_fails_with_the_reason(surveillance, platform, letter) -> None:
    answer = surveillance("dead-letters", "replay", "--code", "bad_symbol")
    assert answer.exit_code == ExitCode.FAILED
    said = " ".join(answer.output.split())
    assert "bad_symbol: expected 1 to 32 of" in said.replace("│ ", "")
    assert "--edit-body" in said
    assert waiting(platform) == 0
    assert surveillance("dead-letters", "replay", letter, "--force").exit_code == 0
    assert waiting(platform) == 1


@pytest.mark.parametrize(
    "arguments",
    [(), ("no-such-letter",), (LETTER, "--body", "{}", "--edit-body", "body.json")],
    ids=["none", "id", "both"],
)
def test_replay_of_nothing_that_can_be_meant_is_a_usage_error(surveillance, letter, arguments) -> None:
    assert surveillance("dead-letters", "replay", *arguments).exit_code == ExitCode.USAGE


def test_list_says_how_to_send_one_or_all_of_a_code_again(surveillance, letter) -> None:
    said = surveillance("dead-letters", "list").output
    assert "`surveillance dead-letters replay ID`" in said
    assert "`surveillance dead-letters replay --code CODE`" in said


def test_redrive_of_nothing_says_so(surveillance) -> None:
    answer = surveillance("dead-letters", "redrive")
    assert (answer.exit_code, answer.output.strip()) == (0, "nothing to redrive: SQS has set no message aside")


def test_replay_of_a_code_without_letters_says_so(surveillance) -> None:
    answer = surveillance("dead-letters", "replay", "--code", "not_json")
    assert answer.exit_code == 0
    assert "nothing to replay" in answer.output
