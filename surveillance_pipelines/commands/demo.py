"""``surveillance demo``."""


def demo() -> None:
    """Run everything end to end."""
