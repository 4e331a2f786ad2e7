"""The members of a bundle as data: which model, from which files, with which input, output and calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from surveillance_pipelines.contracts.errors import ErrorCode, SurveillanceError
from surveillance_pipelines.hashing import sha256_bytes
from surveillance_pipelines.models.contract import InputSpec, OutputSpec

Files = Mapping[str, bytes]
"""File name → verified content."""


class BundleError(SurveillanceError, code=ErrorCode.INTEGRITY):
    """A bundle cannot be used: damaged, altered, of another format, or trained for other features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """One member of a bundle.

    Attributes:
        name: unique in the bundle; names the member in breakers, exclusions and explanations.
        kind: a row of ``models/kinds.py``.
        version: of the model as its trainer numbers it.
        files: names of the files that it is loaded from.
        file_hashes: their sha256, in the same order.
        input: the window that it reads.
        output: what it predicts.
        calibration: how its statistic becomes a score from 0 to 1 (``models/calibration.py``); None if it has none.
        serves: False for a member that has not passed its gate: it is kept and evaluated, and never asked in service.
        reasons: why it does not serve.
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

    @property
    def id(self) -> str:
        """``name@version#hash``, the hash over the hashes of the files."""
        return f"{self.name}@{self.version}#{sha256_bytes(*(value.encode() for value in self.file_hashes))[:12]}"

    def to_json(self) -> dict[str, Any]:
        """Return the member as the bundle's configuration lists it; the file hashes are in the manifest."""
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
        """Return the member that ``to_json`` wrote.

        Args:
            value: an entry of ``members``.
            hashes: file name → sha256, of the manifest.

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
                serves=bool(value["serves"]),
                reasons=tuple(value["reasons"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"expected a complete member in the bundle's configuration: {error!r}") from error
