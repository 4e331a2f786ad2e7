import tomllib
from pathlib import Path

import pytest


@pytest.mark.requirement("DEV-09")
def test_package_is_under_the_mit_licence(repository: Path):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("MIT", ["LICENSE"])
    assert (repository / "LICENSE").read_text().startswith("MIT License\n")
