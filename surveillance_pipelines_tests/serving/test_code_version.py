"""The hash of the scoring code covers files that exist."""

from surveillance_pipelines.serving import code_version


def test_every_named_source_exists():
    found = {pattern: list(code_version._PACKAGE.glob(pattern)) for pattern in code_version._SCORING_SOURCES}
    assert [pattern for pattern, paths in found.items() if not paths] == []
