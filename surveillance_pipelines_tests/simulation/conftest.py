"""The live lane of the serving tests, for the comparison with a real database."""

from surveillance_pipelines_tests.live_lane_fixtures import live_lane

__all__ = ["live_lane"]
