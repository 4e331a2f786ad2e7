"""The doctor's checks of the output channels: their extras, and a real Valkey that answers or does not."""

import builtins
import importlib.metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from benchmarks.valkey import ValkeyProcess
from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines.models.classifier import MODEL_FILE
from surveillance_pipelines.services.doctor import (
    check_channels,
    check_compilation,
    check_database,
    check_extras,
    check_home,
    check_lake,
    check_models,
    check_queues,
    check_registry,
)
from surveillance_pipelines.services.facts import Fact, once_per_cause
from surveillance_pipelines.services.models import activate
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.models.edited_bundles import replace_file, write_v2
from surveillance_pipelines_tests.storage_fixtures import service_settings

HOME_REMEDY = "set SURVEILLANCE_HOME to a folder that can be created and written, or correct its permissions"
INSTALL = "install the extra: pip install --editable '.[redis]'"


def listing(settings: Settings, url: str = "redis://127.0.0.1:1/0") -> Platform:
    """Return a platform whose ``OUTPUT_CHANNELS`` contains redis."""
    return Platform(settings.model_copy(update={"output_channels": ("sqs", "redis"), "redis_url": SecretStr(url)}))


@pytest.fixture
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package redis is neither installed nor imported."""
    version, import_ = importlib.metadata.version, builtins.__import__

    def find_version(package: str) -> str:
        if package == "redis":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    def find_module(name: str, *rest: Any) -> Any:
        if name.endswith("redis_streams"):
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
        return import_(name, *rest)

    monkeypatch.setattr(importlib.metadata, "version", find_version)
    monkeypatch.setattr(builtins, "__import__", find_module)


def extra(platform: Platform) -> Fact:
    (found,) = [finding for finding in check_extras(platform) if finding.name == "extra redis"]
    return found


def test_extra_of_a_channel_that_is_not_listed_is_a_warning(settings, without_redis):
    found = extra(Platform(settings))
    assert (found.verdict, found.remedy) == ("warn", INSTALL)


def test_extra_of_a_listed_channel_is_required(settings, without_redis):
    found = extra(listing(settings))
    assert (found.verdict, found.remedy) == ("fail", INSTALL)
    (channel,) = check_channels(listing(settings))
    assert (channel.verdict, channel.found) == ("fail", "expected the package redis, found none")
    assert INSTALL in channel.remedy


def test_extra_of_a_channel_that_is_installed_is_ok(settings):
    assert extra(listing(settings)).verdict == "ok"


def test_channel_that_answers_is_ok_and_receives_nothing(settings, valkey: ValkeyProcess):
    platform = listing(settings, valkey.url)
    assert check_channels(platform) == [Fact("channel redis", "ok", "answers")]
    assert valkey.entries(platform.settings.redis_stream) == []


def test_channel_that_does_not_answer_fails_with_a_remedy(settings, valkey: ValkeyProcess):
    valkey.kill()
    (found,) = check_channels(listing(settings, valkey.url))
    assert (found.name, found.verdict) == ("channel redis", "fail")
    assert "ConnectionError" in found.found
    assert "REDIS_URL" in found.remedy


def test_channel_with_a_wrong_password_fails(settings, valkey: ValkeyProcess):
    with valkey.client() as client:
        client.config_set("requirepass", "secret")
    (found,) = check_channels(listing(settings, valkey.url))
    assert (found.verdict, "Authentication" in found.found) == ("fail", True)


@pytest.mark.parametrize("home", ["/proc/foo", "a_file"])
def test_home_that_cannot_be_written_is_the_one_cause_that_all_remedies_name(tmp_path, home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    platform = Platform(service_settings(Path(home).absolute()))
    checks = (check_home, check_database, check_queues, check_lake, check_models, check_registry)
    found = [finding for check in checks for finding in check(platform)]
    assert [finding.name for finding in found] == ["home", "database", "queues", "lake", "models", "model registry"]
    assert {(finding.verdict, finding.remedy) for finding in found} == {("fail", HOME_REMEDY)}


def test_champion_that_cannot_serve_fails_the_check_of_models(settings, tmp_path):
    platform, path = Platform(settings), write_v2(tmp_path / "v1")
    with platform.connect() as connection:
        record_version(connection, ModelVersion(
            version=1, bundle_hash=load_bundle(path).bundle_hash, path=path, training_duration_seconds=1.0,
            training_dataset_size=1,
        ))  # fmt: skip
    activate(platform, 1, decided_by="test")
    assert [finding.verdict for finding in check_models(platform)] == ["ok"]
    edited = replace_file(path, MODEL_FILE, b"garbage")
    with platform.connect() as connection:
        connection.execute("UPDATE surveillance.model_versions SET bundle_hash = %s", (edited,))
        connection.execute("UPDATE surveillance.deployments SET model_id = %s", (edited,))
    (found,) = check_models(platform)
    assert (found.verdict, "'classifier'" in found.found) == ("fail", True)
    assert "train" in found.remedy


def test_only_listed_channels_are_checked(settings):
    assert check_channels(Platform(settings)) == []


def test_wrong_password_is_one_failure_with_its_own_remedy(settings):
    assert settings.database_url is not None
    parts = urlsplit(settings.database_url.get_secret_value())
    wrong = str(urlunsplit(parts._replace(netloc=f"{parts.username}:hunter2@{parts.hostname}:{parts.port}")))
    platform = Platform(settings.model_copy(update={"database_url": SecretStr(wrong)}))
    checks = (check_database, check_queues, check_lake, check_models, check_registry)
    (found,) = once_per_cause([finding for check in checks for finding in check(platform)])
    assert (found.name, found.verdict) == ("database", "fail")
    assert "expected PostgreSQL to accept the connection" in found.found
    assert found.found.endswith("also stops the checks of: queues, lake, models, model registry")
    assert found.remedy.startswith("correct user, password and name of the database in DATABASE_URL")
    assert "hunter2" not in str(found)


def test_different_failures_are_kept_apart():
    findings = [
        Fact("a", "fail", "x"),
        Fact("b", "warn", "x"),
        Fact("c", "fail", "y"),
        Fact("d", "fail", "x"),
    ]
    assert once_per_cause(findings) == [Fact("a", "fail", "x; also stops the checks of: d"), *findings[1:3]]


def test_compiled_code_is_kept_or_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    (found,) = check_compilation(Platform(settings))
    assert found.verdict == "ok"
    monkeypatch.setattr("surveillance_pipelines.services.doctor.find_cache", lambda: None)
    (found,) = check_compilation(Platform(settings))
    assert (found.verdict, "NUMBA_CACHE_DIR" in found.remedy) == ("warn", True)
