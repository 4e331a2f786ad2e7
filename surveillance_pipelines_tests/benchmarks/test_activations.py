"""Two activations at the same instant, with and without planted mistakes."""

from pathlib import Path

import pytest

from benchmarks.activations import add_versions, contend, no_lock
from surveillance_pipelines.models.bundle import Bundle


@pytest.fixture
def contended_url(database_url: str, bundle: Bundle) -> str:
    add_versions(database_url, Path(bundle.path), bundle.bundle_hash)
    return database_url


def test_concurrent_activations_leave_one_champion_and_lose_no_promotion(contended_url: str):
    counts = contend(contended_url, 100, processes=False)
    assert counts.rounds == 100
    assert counts.flawless, counts


def test_activations_without_the_lock_are_seen_to_fail(contended_url: str):
    counts = contend(contended_url, 100, lock=no_lock, processes=False)
    assert counts.refused > 0, counts
    assert counts.not_one_champion == 0, "the unique index still holds"


def test_activations_without_lock_and_index_are_seen_to_leave_two_champions(contended_url: str):
    counts = contend(contended_url, 100, lock=no_lock, without_index=True, processes=False)
    assert counts.not_one_champion > 0, counts
