"""The volume with which a bar in progress is scored.

The volume so far is a lower bound of the bar's volume. Above the usual volume it is evidence: the bar has at least that
volume. Below, it is not, and a model trained on complete bars would score the first tick of every minute as anomalous.
The volume cannot be treated as missing either: trees behave arbitrarily outside the training range, and training has no
bars that move and lack volume features. The usual volume is therefore assumed until the volume so far exceeds it.
"""


def volume_to_score(so_far: float, usual: float) -> float:
    """Return the volume with which a bar in progress is scored.

    Args:
        so_far: volume of its ticks; 0 if none yet, for example while a running total has not changed.
        usual: ``FeatureState.usual_volume``; NaN if unknown, for example for a feed without volumes.
    """
    return max(so_far, usual)  # with NaN second, max returns the number
