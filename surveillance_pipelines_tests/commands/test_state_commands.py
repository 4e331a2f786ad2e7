"""status, prepare, doctor, reset and instruments."""

import os
import uuid

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.commands.up import disable_yahoo_fallback_in_demo
from surveillance_pipelines.contracts.endpoints import DEMO_MARKER
from surveillance_pipelines.contracts.queue import SendEntry
from surveillance_pipelines.embedded.service_home import ServiceHome
from surveillance_pipelines.services.endpoints import LOCAL_QUEUES
from surveillance_pipelines.services.homes import is_platform_home
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.partitions import partitions


def test_status_of_nothing_says_how_to_begin_and_starts_nothing(bare, tmp_path) -> None:
    answer = bare("status")
    assert answer.exit_code == 0
    assert "surveillance demo" in answer.output
    assert not (tmp_path / "home").exists()


def test_status_counts_waiting_messages_and_names_what_is_degraded(surveillance, platform) -> None:
    platform.queue(platform.endpoints.queue_urls[0]).send([SendEntry("{}", "AAPL", str(place)) for place in range(4)])
    answer = surveillance("status")
    assert answer.exit_code == 0, answer.output
    assert "4 waiting" in answer.output
    assert "degraded: champion" in answer.output


def test_prepare_creates_what_is_missing_once(surveillance, settings, monkeypatch) -> None:
    name = f"prepared_{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("SQS_QUEUE_URL", f"{LOCAL_QUEUES}/{name}.fifo")
    monkeypatch.setenv("OUTPUT_QUEUE_URL", f"{LOCAL_QUEUES}/{name}_out.fifo")
    monkeypatch.setenv("LAKE_URL", f"s3://{name.replace('_', '-')}/lake")
    monkeypatch.setenv("LAKE_ENDPOINT_URL", settings.sqs_endpoint_url)
    first = surveillance("prepare")
    assert first.exit_code == 0, first.output
    assert first.output.count("created") == 3
    assert surveillance("doctor").exit_code == 0
    again = surveillance("prepare")
    assert again.exit_code == 0, again.output
    assert "created" not in again.output


def test_up_in_the_home_of_a_demo_keeps_yahoo_off_unless_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("FALLBACK_TO_YFINANCE", raising=False)

    def environment(**chosen: bool) -> dict[str, str]:
        settings = Settings(_env_file=None, surveillance_home=tmp_path, **chosen)  # pyright: ignore[reportCallIssue]
        return disable_yahoo_fallback_in_demo(Platform(settings), {})

    assert environment() == {}
    (tmp_path / DEMO_MARKER).touch()
    assert environment() == {"FALLBACK_TO_YFINANCE": "false"}
    assert environment(fallback_to_yfinance=True) == {}


def test_doctor_on_working_stores_finds_nothing_broken(surveillance) -> None:
    answer = surveillance("doctor")
    assert answer.exit_code == 0, answer.output
    assert "no check failed" in answer.output


def test_doctor_names_each_broken_part_and_what_to_do(surveillance, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/absent.fifo,"
                                        "https://sqs.us-east-1.amazonaws.com/000000000000/plain")  # fmt: skip
    (tmp_path / "lake").write_text("a file where the lake should be")
    monkeypatch.setenv("LAKE_URL", str(tmp_path / "lake"))
    answer = surveillance("doctor")
    assert answer.exit_code == ExitCode.FAILED
    failed = answer.output.splitlines()[-1]
    assert all(name in failed for name in ("queue absent.fifo", "queue plain", "lake"))
    assert "database" not in failed


def test_doctor_fails_if_the_server_of_a_listed_channel_does_not_answer(surveillance, monkeypatch) -> None:
    monkeypatch.setenv("OUTPUT_CHANNELS", "sqs,redis")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    answer = surveillance("doctor")
    assert answer.exit_code == ExitCode.FAILED
    assert answer.output.splitlines()[-1] == "1 failed: channel redis"
    assert "hunter2" not in answer.output


def test_doctor_with_settings_out_of_bounds_reports_instead_of_breaking(bare, monkeypatch) -> None:
    monkeypatch.setenv("SQS_WAIT_TIME", "500")
    answer = bare("doctor")
    assert answer.exit_code == ExitCode.FAILED
    assert "SQS_WAIT_TIME" in answer.output.replace("\n", "")


def test_reset_of_a_folder_that_is_not_ours_refuses(bare, tmp_path) -> None:
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    answer = bare("reset", "--yes")
    assert answer.exit_code == ExitCode.USAGE
    assert (tmp_path / "home" / "thesis.txt").exists()


def test_reset_asks_and_keeps_on_no(surveillance, platform, tmp_path) -> None:
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    (tmp_path / "home" / "dagster" / "dagster.yaml").write_text("")
    assert surveillance("reset", text="n\n").exit_code == ExitCode.FAILED
    assert is_platform_home(tmp_path / "home")
    answer = surveillance("reset", text="y\n")
    assert answer.exit_code == 0, answer.output
    assert not (tmp_path / "home").exists()
    assert "the configured database and queues" in answer.output
    with platform.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ops.ledger").fetchone() == (0,)


def test_reset_of_a_home_in_use_refuses_and_names_the_process(bare, tmp_path) -> None:
    home = ServiceHome(tmp_path / "home")
    home.prepare()
    home.lock.touch()
    home.register(os.getppid())
    answer = bare("reset", "--yes")
    assert answer.exit_code == ExitCode.FAILED
    assert str(os.getppid()) in answer.output
    assert (tmp_path / "home").exists()


def test_reset_of_nothing_is_no_error(bare) -> None:
    assert bare("reset").exit_code == 0


def test_instruments_add_puts_each_symbol_on_its_calendar(surveillance) -> None:
    answer = surveillance("instruments", "add", "aapl", "BTCUSDT", "9988.HK")
    assert "one that serves now ends within 300 s" in answer.output
    assert answer.exit_code == 0, answer.output
    listed = surveillance("instruments", "list").output
    for symbol, calendar in (("AAPL", "XNYS"), ("BTCUSDT", "24/7"), ("9988.HK", "XHKG")):
        assert any(symbol in line and calendar in line for line in listed.splitlines())


def test_instruments_add_of_no_symbol_is_a_usage_error(surveillance) -> None:
    assert surveillance("instruments", "add", "not a symbol").exit_code == ExitCode.USAGE


def test_status_says_degraded_while_coming_weeks_have_no_partition(surveillance, platform) -> None:
    assert "ledger tables" not in surveillance("status").output.splitlines()[-1]
    with platform.connect() as connection:
        coming = max(p.name for p in partitions(connection) if p.monday is not None and p.table == "inbox")
        connection.execute(f"DROP TABLE ops.{coming}".encode())
    answer = surveillance("status")
    assert "ledger tables" in answer.output.splitlines()[-1]
    assert "no partition of inbox" in answer.output
