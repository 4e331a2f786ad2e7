"""Embedded services as processes: started once, shared, restarted, and stopped when unused."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from surveillance_pipelines.clock import SYSTEM_CLOCK
from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.contracts.queue import AwsCredentials
from surveillance_pipelines.embedded.queue_credentials import client_config
from surveillance_pipelines.embedded.service_home import ProcessId, ServiceHome
from surveillance_pipelines.embedded.services import (
    EmbeddedServices,
    EmbeddedServicesError,
    ensure_services,
    hold,
    read_services,
    release,
    stop_services,
)
from surveillance_pipelines.embedded.supervisor import LINGER_SECONDS
from surveillance_pipelines.embedded.unprivileged import Account
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.database import connect
from surveillance_pipelines_tests.storage_fixtures import service_settings, sqs_client

_HOLDER = """
import sys, time
from pathlib import Path
from surveillance_pipelines.embedded.services import ensure_services
from surveillance_pipelines_tests.storage_fixtures import service_settings
found = ensure_services(service_settings(Path(sys.argv[1])))
print(found.supervisor.pid, found.postgres.pid, found.queue.pid, flush=True)
time.sleep(120)
"""


@pytest.fixture
def home_settings(tmp_path: Path) -> Iterator[Settings]:
    """A separate home. Its path is too long for a socket and lies in pytest's private folder (mode 700)."""
    settings = service_settings(tmp_path / ("a_long_name_" * 10) / "home")
    yield settings
    stop_services(settings)
    release(settings)


def test_ensure_services_two_concurrent_starters_share_one_server(home_settings: Settings) -> None:
    holders = [_start_holder(home_settings) for _ in range(2)]
    try:
        lines = [_first_line(holder) for holder in holders]
    finally:
        for holder in holders:
            _kill(holder)
    assert lines[0] == lines[1]
    assert len(lines[0].split()) == 3


def test_services_after_a_killed_holder_leave_no_process(home_settings: Settings) -> None:
    holder = _start_holder(home_settings)
    pids = [int(pid) for pid in _first_line(holder).split()]
    assert all(psutil.pid_exists(pid) for pid in pids)
    _kill(holder)
    assert _becomes_true(lambda: not any(psutil.pid_exists(pid) for pid in pids), LINGER_SECONDS + 15)
    assert read_services(home_settings.surveillance_home) is None
    assert _postgres_processes(home_settings.surveillance_home) == []


def test_services_of_a_deleted_home_leave_no_process(home_settings: Settings) -> None:
    found = ensure_services(home_settings)
    shutil.rmtree(home_settings.surveillance_home, ignore_errors=True)
    processes = (found.supervisor, found.postgres, found.queue)
    assert _becomes_true(lambda: not any(process.is_alive() for process in processes), 30)


def test_long_poll_of_a_disconnected_client_receives_no_message(home_settings: Settings) -> None:
    found = ensure_services(home_settings)
    queue = sqs_client(found.queue_endpoint, found.queue_credentials)
    url = queue.create_queue(QueueName="gone.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.ReceiveMessage"}
    body = json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20})
    request = AWSRequest("POST", found.queue_endpoint, headers, body)
    keys = found.queue_credentials
    SigV4Auth(Credentials(keys.access_key_id, keys.secret_access_key), "sqs", "us-east-1").add_auth(request)
    client = HTTPConnection(found.queue_endpoint.removeprefix("http://"))
    client.request("POST", "/", body, dict(request.headers.items()))
    SYSTEM_CLOCK.sleep(0.5)  # the poll is waiting
    client.close()
    SYSTEM_CLOCK.sleep(0.2)
    queue.send_message(QueueUrl=url, MessageBody="tick", MessageGroupId="A", MessageDeduplicationId="1")
    assert [message["Body"] for message in queue.receive_message(QueueUrl=url)["Messages"]] == ["tick"]


def test_services_after_a_restart_keep_rows_messages_and_addresses(home_settings: Settings) -> None:
    first = ensure_services(home_settings)
    with connect(first.server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE kept")
    queue = sqs_client(first.queue_endpoint, first.queue_credentials)
    queue.create_queue(QueueName="kept.fifo", Attributes={"FifoQueue": "true"})
    url = queue.get_queue_url(QueueName="kept.fifo")["QueueUrl"]
    queue.send_message(QueueUrl=url, MessageBody="tick", MessageGroupId="A", MessageDeduplicationId="1")
    assert stop_services(home_settings)
    assert not stop_services(home_settings)

    second = ensure_services(home_settings)
    assert second.supervisor != first.supervisor
    assert (second.server_url, second.queue_endpoint) == (first.server_url, first.queue_endpoint)
    with connect(second.server_url) as connection:
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = 'kept'").fetchone() == (1,)
    assert [message["Body"] for message in queue.receive_message(QueueUrl=url)["Messages"]] == ["tick"]


def test_services_of_a_killed_supervisor_are_adopted_and_can_be_stopped(home_settings: Settings) -> None:
    first = ensure_services(home_settings)
    os.kill(first.supervisor.pid, signal.SIGKILL)
    assert _becomes_true(lambda: not first.supervisor.is_alive(), 5)
    assert read_services(home_settings.surveillance_home) is None
    second = ensure_services(home_settings)
    assert second == replace(first, supervisor=second.supervisor)
    assert second.supervisor != first.supervisor

    os.kill(second.supervisor.pid, signal.SIGKILL)
    assert stop_services(home_settings)
    assert not any(process.is_alive() for process in (second.supervisor, second.postgres, second.queue))


def test_killed_services_are_restarted_at_their_addresses(home_settings: Settings) -> None:
    first = ensure_services(home_settings)
    victims = (first.postgres, first.queue)
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    assert _becomes_true(lambda: _is_restarted(home_settings, victims), 30)
    second = read_services(home_settings.surveillance_home)
    assert second is not None
    assert second.supervisor == first.supervisor
    assert (second.server_url, second.queue_endpoint) == (first.server_url, first.queue_endpoint)
    connect(second.server_url).close()
    sqs_client(second.queue_endpoint, second.queue_credentials).list_queues()


def test_supervisor_repeats_a_restart_that_fails(home_settings: Settings) -> None:
    first = ensure_services(home_settings)
    home = ServiceHome(home_settings.surveillance_home)
    control = home.postgres / "global" / "pg_control"
    saved = control.rename(control.with_name("saved"))
    os.kill(first.postgres.pid, signal.SIGKILL)
    log = home.logs / "supervisor.log"
    assert _becomes_true(lambda: "does not start, trying again" in log.read_text(), 30)
    saved.rename(control)
    assert _becomes_true(lambda: _is_restarted(home_settings, [first.postgres]), 30)
    second = read_services(home_settings.surveillance_home)
    assert second is not None
    assert (second.supervisor, second.queue, second.server_url) == (first.supervisor, first.queue, first.server_url)


def test_queue_server_of_an_older_version_is_replaced_and_keeps_its_messages(home_settings: Settings) -> None:
    first = ensure_services(home_settings)
    home = ServiceHome(home_settings.surveillance_home)
    queue = sqs_client(first.queue_endpoint, first.queue_credentials)
    url = queue.create_queue(QueueName="kept.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    queue.send_message(QueueUrl=url, MessageBody="tick", MessageGroupId="A", MessageDeduplicationId="1")
    os.kill(first.supervisor.pid, signal.SIGKILL)
    assert _becomes_true(lambda: not first.supervisor.is_alive(), 5)
    recorded = json.loads(home.queue_record.read_text())
    del recorded["access_key_id"]  # an older version knows no credentials
    home.queue_record.write_text(json.dumps(recorded))
    second = ensure_services(home_settings)
    assert (second.postgres, second.queue_endpoint) == (first.postgres, first.queue_endpoint)
    assert second.queue != first.queue
    assert [message["Body"] for message in queue.receive_message(QueueUrl=url)["Messages"]] == ["tick"]


def test_client_of_a_user_reaches_the_queue_with_the_configuration_file(
    services: EmbeddedServices, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config = client_config(ServiceHome(run_folder / "services"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    client = boto3.Session().client("sqs")
    assert client.meta.endpoint_url == services.queue_endpoint
    client.list_queues()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_queue_server_refuses_unsigned_requests_and_other_credentials(services: EmbeddedServices) -> None:
    stranger = sqs_client(services.queue_endpoint, AwsCredentials("local", "local"))
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        stranger.list_queues()
    with closing(HTTPConnection(services.queue_endpoint.removeprefix("http://"))) as client:
        client.request("POST", "/_ministack/reset")
        assert client.getresponse().status == 403


def test_services_listen_on_loopback_only_and_require_the_password(services: EmbeddedServices) -> None:
    listening = [
        connection.laddr.ip
        for process in (services.postgres, services.queue)
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1", "127.0.0.1"]
    password = services.server_url.split(":")[2].split("@")[0]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(services.server_url.replace(password, "guess"))
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        connect(services.server_url.replace("surveillance:", "postgres:"))
    with connect(services.server_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("COPY (SELECT 1) TO PROGRAM 'cat'")


def test_services_json_and_data_are_readable_by_the_owner_only(services: EmbeddedServices, run_folder: Path) -> None:
    home = ServiceHome(run_folder / "services")
    assert stat.S_IMODE(home.record.stat().st_mode) == 0o600
    assert stat.S_IMODE((home.embedded / "postgres.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.postgres.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.queue.stat().st_mode) == 0o700


def test_hold_leaves_parent_folders_unchanged_and_releases_at_the_end(home_settings: Settings) -> None:
    home = ServiceHome(home_settings.surveillance_home)
    before = {parent: parent.stat().st_mode for parent in home.home.parents if parent.exists()}
    with hold(home_settings):
        assert home.live_holders() == [os.getpid()]
    assert home.live_holders() == []
    assert {parent: parent.stat().st_mode for parent in before} == before


def test_ensure_services_with_a_broken_data_folder_reports_the_log(home_settings: Settings) -> None:
    home = ServiceHome(home_settings.surveillance_home)
    home.prepare()
    home.postgres.mkdir(mode=0o700)
    (home.postgres / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedServicesError, match="could not access the server configuration file") as refused:
        ensure_services(home_settings)
    assert "\n" not in str(refused.value)
    assert str(home.logs) in str(refused.value)
    assert "Traceback" in (home.logs / "supervisor.log").read_text()


def test_file_in_place_of_a_folder_of_the_home_is_reported(home_settings: Settings) -> None:
    home = ServiceHome(home_settings.surveillance_home)
    home.home.mkdir(parents=True)
    home.logs.write_text("")
    with pytest.raises(InvalidInputError, match=f"expected a folder at {home.logs}, found a file"):
        ensure_services(home_settings)


def test_services_start_although_another_program_has_the_stale_pid(home_settings: Settings) -> None:
    ensure_services(home_settings)
    home = ServiceHome(home_settings.surveillance_home)
    pid_file = home.postgres / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    assert stop_services(home_settings)
    other = Account.choose(Path("/bin/sleep"), Path("/")).start(["sleep", "60"], home.logs / "other.log")
    try:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:], ""]))
        shutil.chown(pid_file, home.postgres.stat().st_uid, home.postgres.stat().st_gid)
        connect(ensure_services(home_settings).server_url).close()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_services_ignore_an_empty_record_left_by_a_power_failure(home_settings: Settings) -> None:
    first = ensure_services(home_settings)
    os.kill(first.supervisor.pid, signal.SIGKILL)
    assert _becomes_true(lambda: not first.supervisor.is_alive(), 5)
    ServiceHome(home_settings.surveillance_home).record.write_text("")
    assert ensure_services(home_settings).postgres == first.postgres


def test_live_holders_ignores_a_later_process_with_the_same_pid(tmp_path: Path) -> None:
    home = ServiceHome(tmp_path)
    home.prepare()
    home.register(os.getpid())
    file = home.holders / str(os.getpid())
    file.write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
    assert home.live_holders() == []
    assert not file.exists()


def _start_holder(settings: Settings) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _HOLDER, str(settings.surveillance_home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _first_line(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline()


def _kill(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def _is_restarted(settings: Settings, without: Sequence[ProcessId]) -> bool:
    found = read_services(settings.surveillance_home)
    return found is not None and not {found.postgres, found.queue} & set(without)


def _becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    waited = 0.0
    while waited < seconds and not condition():
        SYSTEM_CLOCK.sleep(0.05)
        waited += 0.05
    return condition()


def _postgres_processes(home: Path) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(home) in part for part in process.info["cmdline"] or ())
    ]
