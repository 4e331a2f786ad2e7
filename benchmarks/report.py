"""Generator of ``docs/proof.md`` and its chart from the JSON files in ``proof/``: ``python -m benchmarks.report``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import COUNTS, REPOSITORY, RESULTS

PAGE: Final = REPOSITORY / "docs" / "proof.md"
PICTURE: Final = REPOSITORY / "docs" / "images" / "proof-ratios.svg"

_HEAD: Final = """# Proof

The table compares the cost of this platform ("ours") with that of an alternative ("anchor") on the same inputs. `make
proof` repeats all measurements and generates this page from the files in `proof/`. A benchmark first checks that both
produce equal outputs, then runs them in alternating rounds (ours, anchor, ours, anchor, …) and drops the first round.
Each library uses one thread unless the row states otherwise. A ratio is the anchor's cost divided by ours in the same
round; above 1, ours is cheaper. A goal is met only if the *smallest* ratio reaches it.

![Ratios with their goals](images/proof-ratios.svg)
"""


def write_report(results: Path = RESULTS, page: Path = PAGE, picture: Path = PICTURE) -> Path:
    """Write the page and its charts, and return the path of the page.

    Args:
        results: folder of the JSON files.
        page: the Markdown file to write.
        picture: the SVG file to write.
    """
    found = load_results(results)
    page.parent.mkdir(parents=True, exist_ok=True)
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(found))
    draw(found, picture)
    for name, result in found.items():
        if curves := result.get("curves"):
            draw_curves(curves, picture.with_name(f"proof-{name}.svg"))
    return page


def load_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results by name, in the order of their targets."""
    paths = sorted(folder.glob("*.json"), key=lambda path: _order(path.stem))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def load_counts(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results of proofs without an anchor, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def render(results: dict[str, dict[str, Any]], counts: Path = COUNTS) -> str:
    """Return the page: the table of ratios, the table of counts, then a section per comparison."""
    header = ["target", "anchor", "ratio (min to max)", "rounds", "goal", "met"]
    lines = [_HEAD, _row(header), _row(["---"] * len(header))]
    for result in results.values():
        span = (
            f"**{_number(result['ratio_median'])}×** ({_number(result['ratio_min'])} to {_number(result['ratio_max'])})"
        )
        met = "yes" if result["met"] else _not_met(result)
        lines.append(_row([result["target"], _anchor(result), span, str(result["n"]), result["goal"], met]))
    lines += ["", *_counts(load_counts(counts))]
    for name, result in results.items():
        lines += ["", *_section(name, result)]
    return "\n".join(lines) + "\n"


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the smallest, median and largest ratio of each comparison and its goal on a logarithmic axis."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "proof", "font.size": 9}):
        figure = Figure(figsize=(8, 0.8 + 0.42 * max(len(results), 1)), layout="constrained")
        axes = figure.subplots()
        for i, result in enumerate(results.values()):
            colour = "#2a7f62" if result["met"] else "#b3541e"
            axes.plot([result["ratio_min"], result["ratio_max"]], [i, i], color=colour, linewidth=3)
            axes.plot(result["ratio_median"], i, "o", color=colour)
            axes.plot(result["goal_ratio"], i, "|", color="black", markersize=16, markeredgewidth=2)
        axes.axvline(1.0, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yticks(range(len(results)), [f"{name}" for name in results])
        axes.invert_yaxis()
        axes.set_xlabel("anchor's cost / ours (dot: median; line: all rounds; bar: goal; green: met)")
        figure.savefig(path, metadata={"Date": None})


def draw_curves(curves: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the curves of one comparison side by side, with both axes starting at 0."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "proof", "font.size": 9}):
        figure = Figure(figsize=(4 * len(curves), 2.8), layout="constrained")
        for axes, curve in zip(figure.subplots(ncols=len(curves), squeeze=False)[0], curves, strict=True):
            axes.plot(curve["xs"], curve["ys"], "o-", color="#2a7f62")
            axes.set(title=curve["title"], xlabel=curve["x"], ylabel=curve["y"], xlim=(0, None), ylim=(0, None))
        figure.savefig(path, metadata={"Date": None})


def _counts(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the table of proofs that count violations instead of comparing costs."""
    lines = ["## Counted", "", _row(["proof", "work", "goal", "result", "met"]), _row(["---"] * 5)]
    for name, result in results.items():
        met = "yes" if result["met"] else "no"
        lines.append(_row([name, result["work"], result["goal"], "<br>".join(result["found"]), met]))
    return lines


def _section(name: str, result: dict[str, Any]) -> list[str]:
    figures = [f"- {figure}: {_number(value)}" for figure, value in result["figures"].items()]
    return [
        f"## {name}",
        "",
        f"{result['work']}.",
        "",
        *([f"![How it grows](images/proof-{name}.svg)", ""] if result.get("curves") else []),
        f"- Ours: {result['ours']}; median {_number(result['ours_median'])} {result['unit']}.",
        f"- Anchor: {_anchor(result)}; median {_number(result['anchor_median'])} {result['unit']}.",
        f"- Parity: {result['parity']}.",
        *figures,
        *(f"- {note}" for note in result["notes"]),
        _measured(result),
    ]


def _measured(result: dict[str, Any]) -> str:
    machine = result["machine"]
    libraries = ", ".join(f"{library} {version}" for library, version in machine["libraries"].items())
    return (
        f"- Measured {result['measured_at'][:16]}Z on {machine['processor']}, {machine['cores']} cores, load "
        f"{machine['load']}, Python {machine['python']}; {libraries}."
    )


def _anchor(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["version"].items())
    return f"{result['anchor']} ({versions})" if versions else result["anchor"]


def _not_met(result: dict[str, Any]) -> str:
    return "no" if result["ratio_min"] > 1.0 else "no, not ahead"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _order(name: str) -> tuple[str, int, str]:
    target = name.partition("_")[0]
    return target[:1], int(target[1:]), name


if __name__ == "__main__":
    write_report()
