"""Chart of the detection of canaries."""

from typing import TYPE_CHECKING, Any

from surveillance_pipelines.defs.metadata import inline_plot

if TYPE_CHECKING:
    from surveillance_pipelines.services.canaries import CanaryRun


def detection_chart(run: "CanaryRun") -> dict[str, Any]:
    """Return metadata with the chart of detection per kind; empty if nothing was planted."""
    if not run.counts.kinds:
        return {}
    return {"detection_per_kind": inline_plot(lambda: _draw(run), "detection per kind")}


def _draw(run: "CanaryRun") -> bytes:
    from surveillance_pipelines.training.canary_plot import detection_figure

    return detection_figure(run.counts.kinds, run.promised.kinds)
