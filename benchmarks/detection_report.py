"""Generator of the measured part of ``docs/detection.md`` from ``proof/detection/markets.json``."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import REPOSITORY, RESULTS

RECORD: Final = RESULTS / "detection" / "markets.json"
PAGE: Final = REPOSITORY / "docs" / "detection.md"
PICTURES: Final = REPOSITORY / "docs" / "images"
BEGIN: Final = "<!-- measured: written by python -m benchmarks.detection -->"
OURS: Final = "bundle"
MEMBERS: Final = ("tail_detector", "classifier", "autoencoder")
SIZES: Final = ("full", "third")
_COLOURS: Final = ("#2b6ca3", "#d9722b", "#8a8f98", "#3a8f5c", "#b8860b", "#8e5ea2")

Record = Mapping[str, Any]


def write_page(record: Record, page: Path = PAGE) -> Path:
    """Replace the part of the page below ``BEGIN``, draw its pictures, and return its path."""
    head, found, _ = page.read_text().partition(BEGIN)
    if not found:
        raise ValueError(f"expected {BEGIN} in {page}, found none")
    pictures = [draw(market, number) for number, market in enumerate(record["markets"])]
    page.write_text(head + BEGIN + "\n\n" + render(record, pictures))
    return page


def render(record: Record, pictures: Sequence[str]) -> str:
    """Return the tables of all markets as Markdown."""
    lines = []
    for market, picture in zip(record["markets"], pictures, strict=True):
        first, last = market["test_days"]
        days = f"test days {first} to {last}, {market['symbol_days']:g} days of 390 bars of one symbol"
        observed = f"{market['observed']:.2f} alerts per symbol and 390 clean bars; promised are {record['promised']:g}"
        lines += [
            f"### {market['market']}",
            "",
            f"{', '.join(market['symbols'])}; {days}.",
            "",
            f"At its own threshold, the bundle raised {observed}.",
            "",
            f"![Share of events found per kind, {market['market']}](images/{picture})",
            "",
        ]
        for size in SIZES:
            lines += [*_table(market, size), ""]
        lines += [*_verdict(market), "", *_budgets(market), ""]
    return "\n".join(lines)


def draw(market: Record, number: int) -> str:
    """Draw the recall of each detector per kind, and return the file's name."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    detectors = [name for name in _detectors(market) if name not in MEMBERS]
    kinds = _kinds(market)
    with mpl.rc_context({"svg.hashsalt": "detection", "font.size": 9}):
        figure = Figure(figsize=(10, 6.4), layout="constrained")
        for axes, size in zip(figure.subplots(2, 1), SIZES, strict=True):
            width = 0.8 / len(detectors)
            for place, (detector, colour) in enumerate(zip(detectors, _COLOURS, strict=True)):
                recall = [_recall(market, detector, size, kind) for kind in kinds]
                axes.bar(np.arange(len(kinds)) + width * place, recall, width, color=colour, label=detector)
            axes.set_xticks(np.arange(len(kinds)) + 0.4 - width / 2, [kind.replace("_", "\n") for kind in kinds])
            axes.set(title=f"{market['market']}, {_size_text(size)}", ylabel="share of events found", ylim=(0, 1))
            axes.grid(axis="y", color="#e6e9ee")
            axes.set_axisbelow(True)
        figure.axes[0].legend(ncols=len(detectors), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.12))
        name = f"detection-{number}.svg"
        PICTURES.mkdir(parents=True, exist_ok=True)
        figure.savefig(PICTURES / name, metadata={"Date": None})
    return name


def _table(market: Record, size: str) -> list[str]:
    """Return the shares of events found; the largest of a row, members aside, is bold."""
    detectors, kinds = _detectors(market), _kinds(market)
    lines = [
        f"{_size_text(size).capitalize()}: share of events found at {_rate(market):.2f} alerts per 390 bars.",
        "",
        "| kind | events | " + " | ".join(detectors) + " | delay of the bundle (minutes) |",
        "|---" * (len(detectors) + 3) + "|",
    ]
    for kind in kinds:
        shares = {detector: _recall(market, detector, size, kind) for detector in detectors}
        best = max(share for detector, share in shares.items() if detector not in MEMBERS)
        cells = [
            f"**{share:.2f}**" if share == best and detector not in MEMBERS else f"{share:.2f}"
            for detector, share in shares.items()
        ]
        ours = _row(market, OURS, size, kind)
        delay = "–" if ours["delay_minutes"] is None else f"{ours['delay_minutes']:.0f}"
        lines.append(f"| {kind} | {ours['events']} | " + " | ".join(cells) + f" | {delay} |")
    means = [sum(_recall(market, name, size, kind) for kind in kinds) / len(kinds) for name in detectors]
    lines.append("| mean | | " + " | ".join(f"{mean:.2f}" for mean in means) + " | |")
    return lines


def _budgets(market: Record) -> list[str]:
    """Return promised and observed alerts per symbol and session phase."""
    rows = market["budgets"]
    above = [row["group"] for row in rows if row["alerts"] > row["most"]]
    verdict = f"above it: {', '.join(above)}" if above else "none is above it"
    meaning = f"the last column is the upper end of the 99% binomial interval of the promise ({verdict})"
    return [
        f"Alerts on the clean days at the bundle's own threshold; {meaning}.",
        "",
        "| symbol or session phase | bars | alerts | promised | at most |",
        "|---|---|---|---|---|",
        *(
            f"| {row['group']} | {row['bars']:,} | {row['alerts']} | {row['promised']:.1f} | {row['most']} |"
            for row in rows
        ),
    ]


def _verdict(market: Record) -> list[str]:
    """Return where the bundle is not ahead of every naive detector."""
    behind = []
    for size in SIZES:
        for kind in _kinds(market):
            ours = _recall(market, OURS, size, kind)
            ahead = {
                name: _recall(market, name, size, kind) for name in _detectors(market) if name not in (OURS, *MEMBERS)
            }
            best = max(ahead, key=ahead.__getitem__)
            if ahead[best] > ours:
                behind.append(f"{kind}, {_size_text(size)} ({ours:.2f}; {best} {ahead[best]:.2f})")
    if not behind:
        return ["The bundle finds at least as much as every naive detector, for every kind and size."]
    return ["The bundle finds less than the best naive detector for: " + "; ".join(behind) + "."]


def _size_text(size: str) -> str:
    return "full size" if size == "full" else "a third of the full size"


def _detectors(market: Record) -> list[str]:
    return list(dict.fromkeys(row["detector"] for row in market["rows"]))


def _kinds(market: Record) -> list[str]:
    return sorted({row["kind"] for row in market["rows"]})


def _rate(market: Record) -> float:
    return float(next(row["alerts_per_symbol_day"] for row in market["rows"] if row["detector"] == OURS))


def _recall(market: Record, detector: str, size: str, kind: str) -> float:
    row = _row(market, detector, size, kind)
    return row["found"] / row["events"]


def _row(market: Record, detector: str, size: str, kind: str) -> Record:
    wanted = (detector, size, kind)
    return next(row for row in market["rows"] if (row["detector"], row["size"], row["kind"]) == wanted)


if __name__ == "__main__":
    print(write_page(json.loads(RECORD.read_text())))
    sys.exit(0)
