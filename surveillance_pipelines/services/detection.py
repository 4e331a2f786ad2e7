"""Which models score, and what they find in a frame of bars."""

from surveillance_pipelines.contracts.errors import InvalidInputError
from surveillance_pipelines.services.platform import Stores


def pinned_bundle_hash(stores: Stores, bundle: str) -> str:
    """Return the whole hash of a bundle that can score, given its beginning; ``"warmup"`` names the warm-up rules.

    Raises:
        InvalidInputError: if the beginning is too short, or names no bundle on record or several.
        BundleError: if the bundle is damaged or not the one on record.
    """
    from surveillance_pipelines.stores.scorers import load_pinned_scorer

    try:
        with stores.connect() as connection:
            return load_pinned_scorer(connection, bundle).bundle_hash
    except (LookupError, ValueError) as error:
        raise InvalidInputError(
            str(error), remedy="column bundle_hash of surveillance.model_versions, and of every row, names them"
        ) from error
