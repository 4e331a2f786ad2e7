"""The doctor's checks of the output channels: their extras, and a real Valkey that answers or does not."""

import builtins
import importlib.metadata
from typing import Any

import pytest
from pydantic import SecretStr

from benchmarks.valkey import ValkeyProcess
from surveillance_pipelines.services.doctor import Finding, check_channels, check_extras
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings

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


def extra(platform: Platform) -> Finding:
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
    assert check_channels(platform) == [Finding("channel redis", "ok", "answers")]
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


def test_only_listed_channels_are_checked(settings):
    assert check_channels(Platform(settings)) == []
