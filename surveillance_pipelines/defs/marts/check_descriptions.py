"""Descriptions of dbt tests for the list of checks in the UI, one sentence each."""

import re
from collections.abc import Mapping
from typing import Any, Final

_SENTENCES: Final = {
    "not_null": "{column_name} is never null.",
    "unique": "No two rows have the same {column_name}.",
    "accepted_values": "{column_name} is one of {values}.",
    "between": "{column_name} is between {lowest} and {highest}, or null.",
    "relationships": "Every {column_name} is a {field} of {to}.",
    "unique_combination": "One row per {columns}.",
}
"""Generic test of dbt or of dbt_project/tests/generic → description."""


def check_description(props: Mapping[str, Any]) -> str | None:
    """Return the description of a test in the manifest, or a generated one if it has none."""
    written = props.get("meta", {}).get("description") or props.get("description")
    if written or not props.get("test_metadata"):
        return written or None
    return _sentence(props["test_metadata"]["name"], props["test_metadata"]["kwargs"])


def _sentence(kind: str, arguments: Mapping[str, Any]) -> str | None:
    # Default values exist in the macro only: see `between` in dbt_project/tests/generic.
    known = {"lowest": 0, "highest": 1, **arguments}
    known |= {name: ", ".join(map(str, arguments.get(name, ()))) for name in ("values", "columns")}
    known["to"] = _referred(arguments.get("to", ""))
    return _SENTENCES[kind].format_map(known) if kind in _SENTENCES else None


def _referred(reference: str) -> str:
    found = re.search(r"""['"](\w+)['"]\s*\)""", reference)
    return found[1] if found else reference
