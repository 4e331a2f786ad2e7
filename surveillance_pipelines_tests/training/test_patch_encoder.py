"""The patch encoder: patches, reproducible training, and distances to a memory."""

from dataclasses import replace

import numpy as np
import pytest

from surveillance_pipelines.contracts.errors import TooLittleDataError
from surveillance_pipelines.training.patch_encoder import DEFAULT, patches_of, train_patch_encoder

SHORT = replace(DEFAULT, length=16, steps=20, batch_size=32, memory=50)


def waves(rows: int = 400) -> np.ndarray:
    places = np.arange(rows)
    noise = np.random.default_rng(3).normal(scale=0.05, size=(rows, 2))
    return np.stack([np.sin(places / 3.0), np.cos(places / 5.0)], axis=1) + noise


def test_a_patch_ends_at_its_point() -> None:
    values = np.arange(20.0).reshape(10, 2)
    patches = patches_of(values, 4)
    assert patches.shape == (7, 4, 2)
    assert patches[3].tolist() == values[3:7].tolist()


def test_equal_seeds_give_equal_encoders() -> None:
    patches = patches_of(waves(), 16)
    first, second, other = (
        train_patch_encoder([waves()], seed=seed, config=SHORT).embed(patches) for seed in (1, 1, 2)
    )
    assert first.tolist() == second.tolist()
    assert first.tolist() != other.tolist()


def test_level_and_scale_of_a_patch_do_not_count() -> None:
    encoder = train_patch_encoder([waves()], seed=1, config=SHORT)
    patches = patches_of(waves(), 16)
    np.testing.assert_allclose(encoder.embed(patches), encoder.embed(7.0 * patches + 3.0), atol=1e-4)


def test_a_shape_that_is_not_in_the_memory_is_farther() -> None:
    values = waves(600)
    encoder = train_patch_encoder([values[:300]], seed=1, config=SHORT)
    memory = encoder.remember(patches_of(values[:300], 16), seed=1, config=SHORT)
    assert len(memory) == 50
    ordinary = encoder.distances(patches_of(values[300:], 16), memory)
    strange = encoder.distances(patches_of(np.random.default_rng(4).normal(size=(300, 2)), 16), memory)
    assert np.median(strange) > np.median(ordinary)
    assert np.median(strange) > np.quantile(ordinary, 0.9)


def test_a_constant_series_has_finite_embeddings() -> None:
    encoder = train_patch_encoder([np.ones((200, 1))], seed=1, config=SHORT)
    assert np.isfinite(encoder.embed(patches_of(np.ones((40, 1)), 16))).all()


def test_too_short_series_are_refused() -> None:
    with pytest.raises(TooLittleDataError, match="patch encoder"):
        train_patch_encoder([np.zeros((32, 1))], seed=1, config=SHORT)
