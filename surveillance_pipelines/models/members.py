"""Specifications of a bundle's members: model kind, files, input, output and calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.models.contract import InputSpec, OutputSpec, require_texts

Files = Mapping[str, bytes]
"""File name → verified content."""


class BundleError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A bundle cannot be used: damaged, altered, of another format, or trained for other features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """One member of a bundle.

    Attributes:
        name: unique in the bundle; identifies the member in breakers, exclusions and explanations.
        kind: a name in ``models/kinds.py``.
        version: version of the model, set by its trainer.
        files: names of the files from which it is loaded.
        file_hashes: sha256 of the files, in the same order.
        input: the window that it reads.
        output: its predictions.
        calibration: how its statistic is mapped to a score from 0 to 1 (``models/calibration.py``); None without one.
        serves: False for a member that has not passed its gate: it is kept and evaluated, but does not serve.
        reasons: why it does not serve.

    Raises:
        ValueError, TypeError: if a value has another type.
    """

    name: str
    kind: str
    version: str
    files: tuple[str, ...]
    file_hashes: tuple[str, ...]
    input: InputSpec
    output: OutputSpec
    calibration: Mapping[str, Any] | None = None
    serves: bool = True
    reasons: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        require_texts("name, kind and version", (self.name, self.kind, self.version))
        require_texts("files and reasons", (*self.files, *self.reasons))
        if not isinstance(self.serves, bool):
            raise TypeError(f"expected true or false in serves, got {self.serves!r:.100}")
        if self.calibration is not None and not isinstance(self.calibration, Mapping):
            raise TypeError(f"expected an object in calibration, got {self.calibration!r:.100}")

    @property
    def id(self) -> str:
        """``name@version#hash``, with a hash of the hashes of the files."""
        return f"{self.name}@{self.version}#{sha256_bytes(*(value.encode() for value in self.file_hashes))[:12]}"

    def to_json(self) -> dict[str, Any]:
        """Return the member's entry in the bundle's configuration, without the file hashes of the manifest."""
        return {
            "name": self.name,
            "kind": self.kind,
            "version": self.version,
            "files": list(self.files),
            "input": self.input.to_json(),
            "output": self.output.to_json(),
            "calibration": None if self.calibration is None else dict(self.calibration),
            "serves": self.serves,
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], hashes: Mapping[str, str]) -> Self:
        """Return the member written by ``to_json``.

        Args:
            value: an entry of ``members``.
            hashes: file name → sha256, from the manifest.

        Raises:
            BundleError: if a field is missing or a file is not in the manifest.
        """
        try:
            return cls(
                name=value["name"],
                kind=value["kind"],
                version=value["version"],
                files=tuple(value["files"]),
                file_hashes=tuple(hashes[name] for name in value["files"]),
                input=InputSpec.from_json(value["input"]),
                output=OutputSpec.from_json(value["output"]),
                calibration=value["calibration"],
                serves=value["serves"],
                reasons=tuple(value["reasons"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"expected a complete member in the bundle's configuration: {error!r}",
                remedy="use another bundle, or train a new one",
            ) from error
