"""``surveillance models``: what is listed, what is activated, and how mistakes read."""

from pathlib import Path

import pytest

from surveillance_pipelines.commands.exit_codes import ExitCode
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.deployments import champion
from surveillance_pipelines.stores.model_store import ModelVersion, record_version


@pytest.fixture
def two_versions(platform: Platform, bundle: Bundle) -> None:
    with platform.connect() as connection:
        for number in (1, 2):
            version = ModelVersion(
                version=number, bundle_hash=bundle.bundle_hash, path=Path(bundle.path), training_duration_seconds=1.0,
                training_dataset_size=1,
            )  # fmt: skip
            record_version(connection, version)


def test_models_without_any_say_how_to_get_one(surveillance) -> None:
    assert "no versions yet" in surveillance("models", "list").output
    assert "no deployments of tenant default and strategy surveillance yet" in surveillance("models", "history").output


@pytest.mark.usefixtures("two_versions")
def test_models_activate_and_history(surveillance, platform: Platform, bundle: Bundle) -> None:
    first = surveillance("models", "activate", "v1", "--by", "a person")
    assert (first.exit_code, first.output.strip()) == (0, "v1 is the champion")
    second = surveillance("models", "activate", "2", "--reason", "fewer false alerts", "--by", "a person")
    assert second.output.strip() == "v2 is the champion; v1 is retired"
    assert surveillance("models", "activate", "v2").output.strip() == "v2 is the champion already"
    with platform.connect() as connection:
        assert champion(connection) == (2, str(bundle.path), bundle.bundle_hash)
    history = surveillance("models", "history").output
    assert all(word in history for word in ("fewer", "false", "alerts"))  # the terminal wraps the column
    assert "a person" in history
    listed = surveillance("models", "list").output
    assert "champion" in listed
    assert "retired" in listed


@pytest.mark.usefixtures("two_versions")
@pytest.mark.parametrize(
    ("version", "said"), [("v9", "got v9, which is not registered"), ("newest", "expected a version such as v3")]
)
def test_models_activate_unknown_version_is_a_usage_error(surveillance, version: str, said: str) -> None:
    answer = surveillance("models", "activate", version)
    assert answer.exit_code == ExitCode.USAGE
    assert said in " ".join(answer.output.split())
