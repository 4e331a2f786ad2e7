"""The list of data incidents, for ``surveillance incidents --data``."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, date
from typing import Final

from surveillance_pipelines.commands.console import counted, echo, table
from surveillance_pipelines.commands.listing import json_instant, minute

_COLUMNS: Final = ("from (UTC)", "to", "minutes", "symbol", "kind", "what", "state")


def show_data_incidents(symbols: str, since: date | None, until: date | None, limit: int, *, as_json: bool) -> None:
    """Print the newest data incidents as a table, or as one JSON object per line."""
    from surveillance_pipelines.services.data_incidents import list_data_incidents
    from surveillance_pipelines.services.instruments import require_symbols
    from surveillance_pipelines.services.platform import open_platform

    chosen = require_symbols(symbols.split(","))
    found = list_data_incidents(open_platform(), symbols=chosen, since=since, until=until, limit=limit)
    if as_json:
        sys.stdout.writelines(json.dumps(asdict(each), default=json_instant) + "\n" for each in found)
        return
    if not found:
        echo("no data incident is known; the asset data_incidents and the live lane look for them")
        return
    rows = [
        (
            minute(each.first_minute),
            f"{each.last_minute.astimezone(UTC):%H:%M}",
            each.minutes,
            each.symbol or f"all of {each.calendar}",
            each.kind,
            each.sentence,
            "open" if each.resolved_at is None else "resolved",
        )
        for each in found
    ]
    title = counted(len(rows), "data incident") if len(rows) < limit else f"newest {len(rows):,} data incidents"
    table(title, _COLUMNS, rows, right=("minutes",))
