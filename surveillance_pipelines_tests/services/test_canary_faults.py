"""The mutation test of canaries: planted faults turn a check red in one run.

``python -m benchmarks.canaries --faults`` plants all of them with a bundle of full size, and writes the table.
"""

from datetime import date
from pathlib import Path

import pytest

from surveillance_pipelines.services.platform import Platform
from surveillance_pipelines.settings import Settings
from surveillance_pipelines_tests.services.canary_faults import FAULTS, red_checks, turns_red
from surveillance_pipelines_tests.services.canary_world import WorldSpec, build_world
from surveillance_pipelines_tests.training.tiny_bundle import TINY_SYMBOLS

SPEC = WorldSpec(TINY_SYMBOLS, date(2024, 3, 4), (date(2024, 3, 11),), date(2024, 3, 12), seed=7)
LEAST_RED = 0.95


@pytest.fixture
def platform(settings: Settings, bundle_path: Path) -> Platform:
    return build_world(settings.model_copy(update={"symbols": SPEC.symbols}), SPEC, bundle_path)


def test_there_are_at_least_25_faults():
    assert len(FAULTS) >= 25


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.requirement("BEY-06")
def test_planted_faults_turn_a_check_red_in_one_run(platform: Platform):
    assert red_checks(platform, "without a fault") == ""
    green = []
    for name, fault in FAULTS.items():
        with fault(platform) as broken:
            events, _ = turns_red(broken, name)
        green += [] if events else [name]
    assert len(green) <= (1.0 - LEAST_RED) * len(FAULTS), green
