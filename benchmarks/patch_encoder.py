"""A learned patch encoder with memory beside simpler detectors: ``python -m benchmarks.patch_encoder [nab 0 1 2]``.

Without arguments, it measures NAB's series and the three markets of ``benchmarks.detection``; with them, only these
parts, and keeps the last measurement of the others.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.detection_markets import DATA, MARKETS
from benchmarks.detection_report import PAGE, SIZES
from benchmarks.harness import RESULTS, machine_facts
from benchmarks.page_parts import replace_part
from benchmarks.patch_markets import market_result
from benchmarks.patch_series import series_results
from surveillance_pipelines.clock import SYSTEM_CLOCK, to_iso

RECORD: Final = RESULTS / "detection" / "patch_encoder.json"
PARTS: Final = ("nab", *(str(number) for number in range(len(MARKETS))))


def main(wanted: Sequence[str]) -> int:
    """Measure the parts, write the record and the part of the page, and return 0, or 2 for an unknown part."""
    if unknown := [part for part in wanted if part not in PARTS]:
        print(f"expected parts among {', '.join(PARTS)}, got {', '.join(unknown)}")
        return 2
    if not DATA.exists():
        print(f"skipped: expected recorded data in {DATA}, found none; {RECORD} keeps the last measurement")
        return 0
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for part in wanted or PARTS:
        found = series_results() if part == "nab" else market_result(MARKETS[int(part)])
        record[part] = {"found": found, "measured_at": to_iso(SYSTEM_CLOCK.now_us()), "machine": machine_facts()}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps({part: record[part] for part in PARTS if part in record}, indent=1) + "\n")
    print(f"wrote {replace_part(PAGE, 'patch encoder', render(record))}")
    return 0


def render(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    lines = [""]
    if "nab" in record:
        lines += _series_table(record["nab"]["found"])
    for part in PARTS[1:]:
        if part in record:
            lines += _market_table(record[part]["found"])
    return lines


def _series_table(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    means = {name: sum(volumes.values()) / len(volumes) for name, volumes in found.items()}
    best = max(means, key=means.__getitem__)
    rows = [
        f"| {name} | {f'**{means[name]:.3f}**' if name == best else f'{means[name]:.3f}'} |"
        for name in sorted(means, key=means.__getitem__, reverse=True)
    ]
    return [
        f"Mean VUS-PR on the {len(found[best])} series of NAB with a labelled window:",
        "",
        "| detector | VUS-PR |",
        "|---|---|",
        *rows,
        "",
    ]


def _market_table(found: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(row["detector"] for row in found["rows"]))
    volumes = {(row["detector"], row["size"]): row["vus_pr"] for row in found["volumes"]}
    events = sum(row["events"] for row in found["rows"] if (row["detector"], row["size"]) == (names[0], "full"))
    rows = [
        f"| {name} | "
        + " | ".join(f"{volumes[name, size]:.3f}" for size in SIZES)
        + " | "
        + " | ".join(f"{_recall(found, name, size):.2f}" for size in SIZES)
        + " |"
        for name in names
    ]
    return [
        f"{found['market']}, {found['copies']} planted copies, {events} events of each size:",
        "",
        "| detector | VUS-PR, full size | VUS-PR, a third | events found, full size | events found, a third |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def _recall(found: Mapping[str, Any], detector: str, size: str) -> float:
    """Return the mean share of events found over the kinds."""
    rows = [row for row in found["rows"] if (row["detector"], row["size"]) == (detector, size)]
    return sum(row["found"] / row["events"] for row in rows) / len(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
