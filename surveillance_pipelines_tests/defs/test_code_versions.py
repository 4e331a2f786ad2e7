"""The code version of an asset covers the code that its body runs.

The location `marts` has dbt models only, which dbt versions; a test of that location says so.
"""

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest

from surveillance_pipelines.code_versions import PACKAGE, code_version, source_files
from surveillance_pipelines.definitions import defs
from surveillance_pipelines.models.kinds import KINDS

COVERED = ("market", "features", "models", "training", "evaluation", "batch", "engine", "services")
"""Folders whose code decides what an asset holds."""
PICTURES = {"training.plots", "training.price_plot", "training.figures", "services.incidents"}
"""They draw what the UI shows of a materialization; no stored row depends on them."""
NOT_FOLLOWED = {"resources", "checks"}
"""Files of ``defs``: one connects to the stores, the others judge what a body has stored; neither changes a row."""
TRAINED = ("market_autoencoder", "market_classifier", "market_direction")


class Function(NamedTuple):
    """A function or class of the package, by the file and name of its definition."""

    file: Path
    name: str


ASSETS = {
    key.to_user_string(): assets
    for assets in defs.get_repository_def().assets_defs_by_key.values()
    if assets.is_executable
    for key in assets.keys
}


def declared_version(asset: str) -> str:
    version = ASSETS[asset].code_versions_by_key[dg.AssetKey(asset)]
    assert version is not None
    return version


def body_of(asset: str) -> Function:
    compute: Any = ASSETS[asset].op.compute_fn
    function = compute.decorated_fn
    return Function(Path(function.__code__.co_filename), function.__name__)


@cache
def declared_modules() -> dict[str, tuple[str, ...]]:
    """Return the modules behind each code version: the arguments of every ``code_version(...)`` of the definitions."""
    calls = [
        tuple(str(argument.value) for argument in node.args if isinstance(argument, ast.Constant))
        for file in (PACKAGE / "defs").rglob("*.py")
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "code_version"
    ]
    # The assets of models name the trainer of their kind, which is imported by its name.
    calls += [("services.training", kind.trainer.removeprefix(f"{PACKAGE.name}.")) for kind in KINDS.values()]
    return {code_version(*modules): modules for modules in calls}


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def definitions_of(file: Path) -> dict[str, ast.AST]:
    """Return the functions and classes of a file by name, those inside functions included."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node for node in ast.walk(parsed(file)) if isinstance(node, kinds)}


def imported_names(nodes: Iterator[ast.AST]) -> dict[str, Function]:
    """Return what each name stands for that imports from the package bind; a module has an empty name."""
    found: dict[str, Function] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            place = PACKAGE.parent.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                module = (place / alias.name).with_suffix(".py")
                target = Function(module, "") if module.is_file() else Function(place.with_suffix(".py"), alias.name)
                found[alias.asname or alias.name] = target
    return found


def imports_of(body: Function) -> set[str]:
    """Return the modules of ``COVERED`` that a function imports, itself or through functions of ``defs``."""
    waiting, seen, modules = [body], set[Function](), set[str]()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        module = ".".join(function.file.relative_to(PACKAGE).with_suffix("").parts)
        if module.split(".")[0] in COVERED:
            modules.add(module)
        elif module.startswith("defs.") and function.file.stem not in NOT_FOLLOWED:
            waiting += used_by(function)
    return modules - PICTURES


def used_by(function: Function) -> Iterator[Function]:
    """Yield what the body of a function of ``defs`` refers to: its imports, and functions of its own file."""
    local = definitions_of(function.file)
    tree = local.get(function.name)
    if tree is None:
        return  # a constant
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    at_top = imported_names(iter(parsed(function.file).body))
    yield from imported_names(ast.walk(tree)).values()
    yield from (at_top[name] for name in named & at_top.keys())
    yield from (Function(function.file, name) for name in named & local.keys())


def missing(asset: str, modules: tuple[str, ...]) -> set[str]:
    """Return the modules that an asset's body imports and that some declared modules do not reach."""
    reached = {".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in source_files(*modules)}
    return imports_of(body_of(asset)) - reached


@pytest.mark.parametrize("asset", sorted(ASSETS))
def test_code_version_covers_what_the_body_imports(asset: str):
    assert missing(asset, declared_modules()[declared_version(asset)]) == set()


@pytest.mark.parametrize(
    ("asset", "module"),
    [
        ("bars_1m", "services.bars"),
        ("market_classifier", "services.training"),
        ("champion", "services.build_folder"),  # imported by a helper in another file
        ("trading_sessions", "services.trading_sessions"),
    ],
)
def test_omitted_module_is_found(asset: str, module: str):
    assert module in missing(asset, ("stores.live_rows",))


def test_every_body_is_followed():
    imports = {asset: imports_of(body_of(asset)) for asset in ASSETS}
    assert sum(bool(found) for found in imports.values()) > len(ASSETS) / 2
    assert {name for found in imports.values() for name in found} >= {
        "services.yahoo_fallback", "services.feature_table", "services.scoring", "services.model_evaluation",
        "services.outcomes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "trained"), [("evaluation/thresholds.py", TRAINED), ("training/scaler.py", ("market_autoencoder",))]
)
def test_changed_byte_changes_the_version_of_models_trained_with_it(
    tmp_path: Path, file: str, trained: tuple[str, ...]
):
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    modules = {asset: declared_modules()[declared_version(asset)] for asset in (*TRAINED, "ticks")}
    assert {asset: code_version(*names, package=copy) for asset, names in modules.items()} == {
        asset: declared_version(asset) for asset in modules
    }
    with (copy / file).open("ab") as changed:
        changed.write(b"#")
    now = {asset for asset, names in modules.items() if code_version(*names, package=copy) != declared_version(asset)}
    assert now == set(trained)
