"""The hash of the scoring code covers all of it, and nothing that is not there."""

import ast
from pathlib import Path

from surveillance_pipelines.serving import code_version

PACKAGE = code_version._PACKAGE
BEGIN = ("serving/engine.py", "serving/batch.py")
DECIDES_NOTHING = {
    "clock.py",  # reads and converts instants
    "contracts/queue.py",  # shapes of messages
    "hashing.py",
    "serving/code_version.py",
    "serving/effects.py",  # shapes of what the engine returns
    "settings.py",  # values that scores depend on are in the row's config_hash
}


def imported_from(path: Path) -> set[str]:
    """Return the files of our package that a file imports from, at its top."""
    nodes = ast.parse(path.read_text()).body
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    files = {f"{name.partition('.')[2].replace('.', '/')}.py" for name in modules if name.startswith(PACKAGE.name)}
    return {file for file in files if (PACKAGE / file).is_file()}


def test_every_named_source_exists():
    found = {pattern: list(PACKAGE.glob(pattern)) for pattern in code_version._SCORING_SOURCES}
    assert [pattern for pattern, paths in found.items() if not paths] == []


def test_everything_between_a_message_and_its_score_is_named():
    reached, waiting = set(), set(BEGIN)
    while waiting:
        reached |= waiting
        waiting = set().union(*(imported_from(PACKAGE / file) for file in waiting)) - reached
    named = {
        str(path.relative_to(PACKAGE)) for pattern in code_version._SCORING_SOURCES for path in PACKAGE.glob(pattern)
    }
    assert reached - named == DECIDES_NOTHING
