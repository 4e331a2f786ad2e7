from surveillance_pipelines.models.bundle import load_bundle
from surveillance_pipelines_tests.models.tiny_bundle import build_tiny_bundle


def test_build_tiny_bundle_writes_a_bundle_that_loads(tmp_path):
    bundle_hash = build_tiny_bundle(tmp_path / "v1", seed=7)
    assert load_bundle(tmp_path / "v1", expected_hash=bundle_hash).bundle_hash == bundle_hash
