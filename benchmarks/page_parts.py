"""Parts of a documentation page that a benchmark writes."""

from collections.abc import Sequence
from pathlib import Path


def replace_part(page: Path, name: str, lines: Sequence[str]) -> Path:
    """Replace the lines between ``<!-- name: begin … -->`` and ``<!-- name: end -->``, and return the page's path.

    Args:
        page: the Markdown file.
        name: name of the part.
        lines: its new lines.

    Raises:
        ValueError: if the page does not have exactly one begin and end of this name, in this order.
    """
    found = page.read_text().splitlines()
    begins = [place for place, line in enumerate(found) if line.startswith(f"<!-- {name}: begin")]
    ends = [place for place, line in enumerate(found) if line == f"<!-- {name}: end -->"]
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise ValueError(f"expected one begin and one end of the part {name} in {page}, got {begins} and {ends}")
    page.write_text("\n".join([*found[: begins[0] + 1], *lines, *found[ends[0] :]]) + "\n")
    return page
