"""``surveillance models``: what is listed, what is activated, and how mistakes read."""

from pathlib import Path

import pytest

from surveillance_pipelines.commands.exit_codes import EXIT_CODES, ExitCode
from surveillance_pipelines.contracts.errors import ErrorCode
from surveillance_pipelines.models.bundle import Bundle
from surveillance_pipelines.models.classifier import MODEL_FILE
from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.stores.deployments import champion
from surveillance_pipelines.stores.model_store import ModelVersion, record_version
from surveillance_pipelines_tests.models.edited_bundles import replace_file, write_v2


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
    assert "no versions of strategy surveillance yet; `surveillance train`" in surveillance("models", "list").output
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


def test_models_of_another_strategy_promise_nothing_that_a_training_does_not_do(surveillance) -> None:
    for command in ("list", "history"):
        said = " ".join(surveillance("models", command, "--strategy", "nope").output.split())
        assert "nope yet" in said
        assert "train" not in said
    answer = surveillance("models", "activate", "v1", "--strategy", "nope")
    assert answer.exit_code == ExitCode.USAGE
    assert answer.output.splitlines() == [
        "error: expected a version of strategy 'nope', got v1, which is not registered",
        "what to do: `surveillance models list --strategy nope` shows the versions",
    ]


@pytest.mark.usefixtures("two_versions")
def test_models_retire_ends_a_role_and_the_champion_only_if_asked(surveillance, platform: Platform) -> None:
    surveillance("models", "activate", "v1")
    refused = surveillance("models", "retire", "v1")
    assert refused.exit_code == ExitCode.USAGE
    assert "promote another version instead" in refused.output
    never = surveillance("models", "retire", "v2")
    assert (never.exit_code, "not deployed" in never.output) == (ExitCode.USAGE, True)
    done = surveillance(
        "models", "retire", "v1", "--leave-no-champion", "--reason", "too many alerts", "--by", "a person"
    )
    assert (done.exit_code, done.output.strip()) == (0, "v1 is retired")
    with platform.connect() as connection:
        assert champion(connection) is None
    assert "a person" in surveillance("models", "history").output


def test_models_activate_of_a_bundle_that_cannot_serve_is_an_integrity_error(
    surveillance, platform: Platform, tmp_path: Path
) -> None:
    path = write_v2(tmp_path / "v5")
    with platform.connect() as connection:
        record_version(connection, ModelVersion(
            version=5, bundle_hash=replace_file(path, MODEL_FILE, b"garbage"), path=path, training_duration_seconds=1.0,
            training_dataset_size=1,
        ))  # fmt: skip
    answer = surveillance("models", "activate", "v5")
    assert answer.exit_code == EXIT_CODES[ErrorCode.INTEGRITY]
    assert "member 'classifier'" in answer.output
    assert "what to do: use another bundle, or train a new one" in answer.output
    with platform.connect() as connection:
        assert champion(connection) is None


@pytest.mark.usefixtures("two_versions")
@pytest.mark.parametrize(
    ("version", "said"), [("v9", "got v9, which is not registered"), ("newest", "expected a version such as v3")]
)
def test_models_activate_unknown_version_is_a_usage_error(surveillance, version: str, said: str) -> None:
    answer = surveillance("models", "activate", version)
    assert answer.exit_code == ExitCode.USAGE
    assert said in " ".join(answer.output.split())
