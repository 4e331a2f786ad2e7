"""Bundles of format 1 (read only): three fixed models, with their settings in three JSON files."""

from collections.abc import Mapping
from typing import Any, Final

from surveillance_pipelines.contracts.predictions import DIRECTIONS
from surveillance_pipelines.models import autoencoder, classifier, direction
from surveillance_pipelines.models.contract import InputSpec, OutputSpec
from surveillance_pipelines.models.members import BundleError, MemberSpec

CONFIG_FILE: Final = "market_surveillance_config.json"
FEATURES_FILE: Final = "market_features.json"
FILES: Final = (
    autoencoder.MODEL_FILE, classifier.MODEL_FILE, direction.MODEL_FILE, autoencoder.SCALER_FILE, FEATURES_FILE,
    CONFIG_FILE,
)  # fmt: skip

_VERSION: Final = "1"


def members(
    config: Mapping[str, Any], view: str, columns: tuple[str, ...], hashes: Mapping[str, str]
) -> tuple[MemberSpec, ...]:
    """Return the three members of a bundle of format 1.

    Args:
        config: content of ``market_surveillance_config.json``.
        view: name of the feature view.
        columns: the manifest's ``model_columns``.
        hashes: file name → sha256, from the manifest.

    Raises:
        BundleError: if the configuration is incomplete.
    """
    try:
        return (
            _autoencoder(config, InputSpec(view, columns), hashes),
            _classifier(config, InputSpec(view, (*columns, "autoencoder.reconstruction_error")), hashes),
            _direction(config, InputSpec(view, columns), hashes),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"expected a complete {CONFIG_FILE} of format 1: {error!r}") from error


def _autoencoder(config: Mapping[str, Any], input_spec: InputSpec, hashes: Mapping[str, str]) -> MemberSpec:
    knots = config["autoencoder"]["calibration"]
    files = (autoencoder.MODEL_FILE, autoencoder.SCALER_FILE)
    return MemberSpec(
        name="autoencoder",
        kind="autoencoder",
        version=_VERSION,
        files=files,
        file_hashes=tuple(hashes[name] for name in files),
        input=input_spec,
        output=OutputSpec("anomaly_score", statistic=autoencoder.STATISTIC),
        calibration={"rule": "knots", "statistic": knots["error"], "score": knots["score"]},
    )


def _classifier(config: Mapping[str, Any], input_spec: InputSpec, hashes: Mapping[str, str]) -> MemberSpec:
    return MemberSpec(
        name="classifier",
        kind="classifier",
        version=_VERSION,
        files=(classifier.MODEL_FILE,),
        file_hashes=(hashes[classifier.MODEL_FILE],),
        input=input_spec,
        output=OutputSpec("anomaly_kind", labels=tuple(config["labels"])),
        calibration={"rule": "threshold", "threshold": float(config["classifier"]["threshold"])},
    )


def _direction(config: Mapping[str, Any], input_spec: InputSpec, hashes: Mapping[str, str]) -> MemberSpec:
    settings = config["direction"]
    return MemberSpec(
        name="direction",
        kind="direction",
        version=_VERSION,
        files=(direction.MODEL_FILE,),
        file_hashes=(hashes[direction.MODEL_FILE],),
        input=input_spec,
        output=OutputSpec("direction", labels=DIRECTIONS, horizons_minutes=(int(settings["horizon_minutes"]),)),
        serves=bool(settings["ready"]),
        reasons=tuple(settings.get("reasons", ())),
    )
