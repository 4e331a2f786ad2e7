"""Who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "surveillance_pipelines"
DAGSTER_SIDE = {"defs", "commands", "definitions.py", "cli.py"}
"""Where Dagster may be imported: the definitions, and the commands that start its processes."""

PURE_FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in DAGSTER_SIDE)


def imported_packages(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_module_imports_no_dagster(path: Path):
    assert not {name for name in imported_packages(path.read_text()) if name.startswith("dagster")}


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_module_imports_no_definitions(path: Path):
    assert "surveillance_pipelines.defs" not in path.read_text()


def test_imported_packages_sees_imports_inside_functions():
    assert imported_packages("def f():\n    from dagster import asset\n    import torch.nn") == {"dagster", "torch"}


def test_package_init_files_are_empty():
    assert [path for path in PACKAGE.rglob("__init__.py") if path.read_text()] == []
