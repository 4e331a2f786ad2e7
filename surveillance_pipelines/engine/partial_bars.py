"""What a bar in progress cannot say yet.

The volume so far is a lower bound of the bar's volume. Above the usual volume it says something: the bar is at least
that heavy. Below it, it says nothing, and a model trained on whole bars would take the first tick of every minute for
an anomaly. Nor can the volume count as missing: the models have never seen a bar that moves, has volume, and has no
volume features, and a tree sends what it has never seen anywhere. So until it says something, the usual is assumed.
"""


def volume_to_score(so_far: float, usual: float) -> float:
    """Return the volume that a bar in progress is scored with.

    Args:
        so_far: of its ticks; 0 for none yet, as when a running total has not moved.
        usual: ``FeatureState.usual_volume``; NaN while it is unknown, as for a feed that reports no volumes.
    """
    return max(so_far, usual)  # of NaN and a number, this order gives the number
