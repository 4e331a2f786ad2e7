"""The import rules of pyproject.toml catch what they forbid, and CONTRIBUTING.md states what they allow."""

import ast
import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import grimp
import pytest
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

from surveillance_pipelines_tests.import_table import (
    CONTRIBUTING,
    PACKAGE,
    forbidden_imports,
    import_table,
    read_contracts,
    with_table,
)

CONTRACTS = read_contracts()
TYPES = {"forbidden": ForbiddenContract, "layers": LayersContract}
FORBIDDEN = {contract["name"]: list(forbidden_imports(contract)) for contract in CONTRACTS}
EVERY_CONTRACT = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)


def planted(graph: grimp.ImportGraph, *imports: tuple[str, str]) -> grimp.ImportGraph:
    """Return a copy of the graph in which a new module of each importer imports a new module of what it names."""
    copy = deepcopy(graph)
    for pair in imports:
        importer, imported = (_new_module(copy, name) for name in pair)
        copy.add_import(importer=importer, imported=imported, line_number=1, line_contents="import planted")
    return copy


def _new_module(graph: grimp.ImportGraph, name: str) -> str:
    is_external = not name.startswith(f"{PACKAGE}.")
    is_file = not is_external and not graph.find_children(name)
    place = name if is_external or is_file else f"{name}.planted"
    if place not in graph.modules:
        graph.add_module(place, is_squashed=is_external)
    return place


def broken(graph: grimp.ImportGraph, contracts: Iterable[dict]) -> set[str]:
    """Return the names of the contracts that a graph breaks."""
    return {contract["name"] for contract in contracts if not _is_kept(graph, contract)}


def _is_kept(graph: grimp.ImportGraph, contract: dict) -> bool:
    options = {"root_packages": [PACKAGE], "include_external_packages": "True"}
    checked = TYPES[contract["type"]](contract["name"], options, contract)
    return checked.check(deepcopy(graph), verbose=False).kept


def forbidding(pair: tuple[str, str]) -> set[str]:
    """Return the names of the contracts that forbid one import."""
    return {name for name, pairs in FORBIDDEN.items() if pair in pairs}


def test_package_keeps_every_contract(graph: grimp.ImportGraph):
    assert broken(graph, CONTRACTS) == set()


@EVERY_CONTRACT
def test_contract_catches_every_import_that_it_forbids(graph: grimp.ImportGraph, contract: dict):
    pairs = FORBIDDEN[contract["name"]]
    assert pairs
    assert [pair for pair in pairs if _is_kept(planted(graph, pair), contract)] == []


@EVERY_CONTRACT
def test_forbidden_import_breaks_the_contracts_that_forbid_it_and_no_other(graph: grimp.ImportGraph, contract: dict):
    # Some contracts forbid nothing that the layers allow, so each import is chosen to break as few as possible.
    pair = min(FORBIDDEN[contract["name"]], key=lambda one: len(forbidding(one)))
    assert broken(planted(graph, pair), CONTRACTS) == forbidding(pair)


@pytest.mark.parametrize(
    "contract",
    [one for one in CONTRACTS if one["type"] == "forbidden" and one.get("allow_indirect_imports") != "True"],
    ids=lambda contract: contract["name"],
)
def test_contract_about_libraries_catches_an_import_through_another_module(graph: grimp.ImportGraph, contract: dict):
    source, library = contract["source_modules"][-1], contract["forbidden_modules"][-1]
    between = f"{PACKAGE}.defs"  # no source of such a contract
    assert not _is_kept(planted(graph, (source, between), (between, library)), contract)


def test_folder_without_a_layer_breaks_the_layers(graph: grimp.ImportGraph):
    copy = deepcopy(graph)
    copy.add_module(f"{PACKAGE}.nowhere")
    assert broken(copy, CONTRACTS) == {one["name"] for one in CONTRACTS if one["type"] == "layers"}


def test_import_inside_a_function_is_in_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "tiny_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("def run():\n    import torch.nn\n    return torch\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = grimp.build_graph("tiny_package", include_external_packages=True, cache_dir=None)
    assert graph.find_modules_directly_imported_by("tiny_package.inner") == {"torch"}


def test_dagster_is_forbidden_everywhere_but_in_its_shell(graph: grimp.ImportGraph):
    (contract,) = [one for one in CONTRACTS if "dagster" in one.get("forbidden_modules", [])]
    shell = {f"{PACKAGE}.{name}" for name in ("defs", "commands", "definitions", "cli")}
    assert set(contract["source_modules"]) == graph.find_children(PACKAGE) - shell


def test_contributing_states_the_allowed_imports():
    page = CONTRIBUTING.read_text()
    assert page == with_table(page, import_table(CONTRACTS)), "run `make import-table`"


def test_contributing_names_files_that_exist(repository: Path):
    names = re.findall(r"`([\w/]+\.py)`", CONTRIBUTING.read_text())
    assert len(names) > 20
    assert [name for name in names if not (repository / PACKAGE / name).is_file()] == []


def test_private_modules_of_dagster_are_imported_in_one_file(repository: Path):
    files = [path for name in (PACKAGE, f"{PACKAGE}_tests", "benchmarks") for path in (repository / name).rglob("*.py")]
    found = [path.relative_to(repository).as_posix() for path in files if private_dagster(path.read_text())]
    assert found == [f"{PACKAGE}/defs/dagster_internals.py"]


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("def f():\n    from dagster._core.storage import base", {"dagster._core.storage"}),
        ("import dagster._utils", {"dagster._utils"}),
        ("from dagster import _core", {"dagster._core"}),
        ("from dagster_postgres._private import x", {"dagster_postgres._private"}),
        ("import dagster as dg\nfrom dagster import asset", set()),
    ],
)
def test_private_imports_are_found(source: str, modules: set[str]):
    assert private_dagster(source) == modules


def private_dagster(source: str) -> set[str]:
    """Return the private modules of Dagster and its libraries that some source imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if "." not in node.module}
    return {name for name in names if name.startswith("dagster") and any(p.startswith("_") for p in name.split("."))}


def test_package_init_files_are_empty_except_the_one_that_must_run_before_numba(repository: Path):
    found = {path: path.read_text() for path in (repository / PACKAGE).rglob("__init__.py")}
    prepared = found.pop(repository / PACKAGE / "features" / "__init__.py")
    assert prepared.splitlines()[-1] == "choose_cache()"
    assert [path for path, text in found.items() if text] == []
