"""Who may import whom, read from import-linter's configuration and written into CONTRIBUTING.md.

``python -m surveillance_pipelines_tests.import_table`` (``make import-table``) rewrites the table between its markers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from importlinter.api import read_configuration

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "surveillance_pipelines"
CONTRIBUTING: Final = REPOSITORY / "CONTRIBUTING.md"
BEGIN: Final = "<!-- import-table: begin (written by `make import-table`) -->"
END: Final = "<!-- import-table: end -->"

CONTENTS: Final[dict[str, str]] = {
    "contracts": "domain types: ticks, bars, sessions, queue messages, output rows and their JSON Schema",
    "market": "price sources (messages, files, Yahoo, simulator), calendars, ticks to bars",
    "features": "the compiled kernel, feature views, state per symbol, batch computation",
    "models": "inference only, no training library: model contract, kinds, bundles, calibration, warm-up rules",
    "evaluation": "metrics, splits, gates, drift, fitting of thresholds",
    "training": "training and its dependencies: training sets, planted anomalies, fitting, export, report, plots",
    "strategies": "pacing of signals",
    "lifecycle": "deployments and their transitions",
    "engine": "live scoring logic without I/O: symbol state, bars, alerts, output rows, effects",
    "stores": "PostgreSQL, lake and model registry: ledger, outbox, leases, queries, migrations",
    "transports": "queues and channels, each with the guarantee it gives",
    "embedded": "local PostgreSQL and queue server, and their supervisor",
    "runtime": "long-running parts: the drain run, its stages, standby",
    "batch": "scoring of stored days with the engine",
    "replay": "reproduction of stored outputs",
    "services": "use cases, each written once",
    "defs": "Dagster definitions only, one folder per domain",
    "commands": "the `surveillance` command line",
}
"""What each folder holds. The table cannot be written while a folder of the configuration is missing here."""


def read_contracts(config: Path = REPOSITORY / "pyproject.toml") -> list[dict[str, Any]]:
    """Return the contracts of a configuration file, in order."""
    return read_configuration(str(config))["contracts_options"]


def layers(contracts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the parts of the package by layer, highest first."""
    (found,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in found["layers"]]


def forbidden_imports(contract: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every pair ``(importer, imported)`` that a contract forbids, as full module names.

    Raises:
        ValueError: if the contract is of a type that this function cannot read.
    """
    if contract["type"] == "forbidden":
        yield from product(contract["source_modules"], contract["forbidden_modules"])
    elif contract["type"] == "layers":
        parts = layers([contract])
        for level, names in enumerate(parts):
            above = [name for layer in parts[:level] for name in layer]
            for name in names:
                beside = [other for other in names if other != name]
                yield from ((f"{PACKAGE}.{name}", f"{PACKAGE}.{other}") for other in [*above, *beside])
    else:
        raise ValueError(
            f"expected a contract of type forbidden or layers, got {contract['type']!r}: extend this function"
        )


def import_table(contracts: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, and below it the libraries that some parts of the package must not reach.

    Raises:
        ValueError: if ``CONTENTS`` names other folders than the contracts.
    """
    order = [name for layer in reversed(layers(contracts)) for name in layer]
    folders = [name for name in order if (REPOSITORY / PACKAGE / name).is_dir()]
    if set(folders) != set(CONTENTS):
        raise ValueError(f"expected CONTENTS to describe {sorted(folders)}, it describes {sorted(CONTENTS)}")
    denied = {pair for contract in contracts for pair in forbidden_imports(contract)}
    allowed = {name: [other for other in order if other != name and not _denied(denied, name, other)] for name in order}
    shared = [name for name in order if all(name in allowed[folder] for folder in folders)]
    rows = [f"| `{name}/` | {CONTENTS[name]} | {_folders(name, allowed[name], folders)} |" for name in folders]
    head = ["| folder | what it holds | may import |", "|---|---|---|"]
    common = f"Every folder may also import {_joined(f'{name}.py' for name in shared)}."
    return "\n".join([*head, *rows, "", common, "", *_libraries(contracts, order)])


def with_table(page: str, table: str) -> str:
    """Return a page with the table between its markers.

    Raises:
        ValueError: if the page does not have both markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in the page")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _folders(importer: str, allowed: Sequence[str], folders: Sequence[str]) -> str:
    """Return the folders that one may import: those that it may not, where these are fewer."""
    others = [name for name in folders if name != importer]
    yes, no = [name for name in others if name in allowed], [name for name in others if name not in allowed]
    if len(yes) <= len(no):
        return _joined(yes) or "no other folder"
    return f"all but {_joined(no)}" if no else "all"


def _denied(pairs: set[tuple[str, str]], importer: str, imported: str) -> bool:
    return (f"{PACKAGE}.{importer}", f"{PACKAGE}.{imported}") in pairs


def _libraries(contracts: Sequence[Mapping[str, Any]], order: Sequence[str]) -> Iterator[str]:
    """Yield one line per contract about other libraries."""
    for contract in contracts:
        libraries = [name for name in contract.get("forbidden_modules", []) if not name.startswith(f"{PACKAGE}.")]
        if not libraries:
            continue
        sources = {name.removeprefix(f"{PACKAGE}.") for name in contract["source_modules"]}
        others = [name for name in order if name not in sources]
        who = f"all but {_joined(others)}" if len(others) < len(sources) else _joined(n for n in order if n in sources)
        reach = "import" if contract.get("allow_indirect_imports") == "True" else "reach, directly or not,"
        yield f"- {contract['name']}: {who} must not {reach} {_joined(libraries)}."


def _joined(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    CONTRIBUTING.write_text(with_table(CONTRIBUTING.read_text(), import_table(read_contracts())))
