"""Code versions follow imports, as the parser sees them."""

import ast
from pathlib import Path

import pytest

from surveillance_pipelines.code_versions import PACKAGE, code_version, imported_files, source_files
from surveillance_pipelines.models.kinds import KINDS

TRAINERS = [kind.trainer.removeprefix(f"{PACKAGE.name}.") for kind in KINDS.values()]
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def parsed_imports(source: str) -> set[Path]:
    """Return the files of the package's folders that some source imports, anywhere in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            module = PACKAGE.parent.joinpath(*(node.module or "").split("."))
            names = [module / alias.name for alias in node.names]
            found |= {path.with_suffix(".py") for path in (module, *names)}
    return {path for path in found if path.is_file() and path.parent != PACKAGE}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imported_files_are_those_that_the_parser_finds(path: Path):
    assert set(imported_files(path)) == parsed_imports(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_package_is_imported_in_one_form_only(path: Path):
    plain = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    assert [name for name in plain if name.split(".")[0] == PACKAGE.name] == []


def test_training_version_covers_thresholds_and_scaler():
    files = {str(path.relative_to(PACKAGE)) for path in source_files("training.bundle_training", *TRAINERS)}
    assert {"evaluation/thresholds.py", "training/scaler.py", "training/export.py"} <= files


def test_code_version_of_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match=r"expected a module of surveillance_pipelines, got 'market\.nonsense'"):
        code_version("market.nonsense")


def test_code_version_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one module"):
        code_version()
