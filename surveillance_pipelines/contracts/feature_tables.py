"""Names of the lake tables of features: one table per feature view."""

from typing import Final

DEFAULT_VIEW: Final = "core_v1"
"""Feature view of the warm-up rules, and of everything that is not bound to a trained model."""

TRAINING_VIEW: Final = "core_v2"
"""Feature view of new trainings."""


def feature_table_of(view: str) -> str:
    """Return the lake table with the features of a view."""
    return f"features_{view}"
