from datetime import date
from pathlib import Path

import pytest

from surveillance_pipelines.models.bundle import Bundle, load_bundle
from surveillance_pipelines.models.ensemble import Ensemble
from surveillance_pipelines.models.training_domain import TrainingDomain
from surveillance_pipelines_tests.models.edited_bundles import V1, write_v2
from surveillance_pipelines_tests.training.tiny_bundle import TINY_FIRST, TINY_LAST, TINY_SYMBOLS

DOMAIN = TrainingDomain(
    date(2024, 3, 4), date(2024, 3, 11), frozenset({"AAPL"}), frozenset({"XNYS"}), frozenset({"equity"})
)


def test_domain_of_a_new_bundle_is_its_training_data(bundle: Bundle) -> None:
    assert Ensemble(bundle).training_domain == TrainingDomain(
        TINY_FIRST, TINY_LAST, frozenset(TINY_SYMBOLS), frozenset({"XNYS"}), frozenset({"equity"})
    )


def test_domain_of_an_earlier_bundle_is_unknown_and_nothing_is_outside(tmp_path: Path) -> None:
    for path in (V1, write_v2(tmp_path / "v2")):
        domain = Ensemble(load_bundle(path)).training_domain
        assert domain.unknown == ("symbol", "calendar", "asset_class")
        assert domain.outside("BTC-USD", "24/7", "crypto") == {}


@pytest.mark.parametrize(
    ("symbol", "calendar", "asset_class", "outside"),
    [
        ("AAPL", "XNYS", "equity", {}),
        ("NVDA", "XNYS", "equity", {"symbol": "NVDA"}),
        ("BTC-USD", "24/7", "crypto", {"symbol": "BTC-USD", "calendar": "24/7", "asset_class": "crypto"}),
        ("AAPL", None, "equity", {}),
    ],
)
def test_outside_names_what_no_training_bar_had(
    symbol: str, calendar: str | None, asset_class: str, outside: dict[str, str]
) -> None:
    assert DOMAIN.outside(symbol, calendar, asset_class) == outside


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"training": None},
        {"training": {"data": [1]}},
        {"training": {"data": {"first": "yesterday", "last": 5, "symbols": "AAPL", "calendars": [1]}}},
    ],
)
def test_domain_of_an_odd_manifest_is_not_recorded(manifest: dict) -> None:
    assert TrainingDomain.of_manifest(manifest) == TrainingDomain()
