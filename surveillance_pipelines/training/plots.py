"""Plots of a training and of its evaluation, as PNG bytes by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.metrics import precision_recall_curve, roc_curve

from surveillance_pipelines.evaluation.drift import PSI_ALERT, PSI_NOTICE
from surveillance_pipelines.evaluation.metrics import confusion_matrix
from surveillance_pipelines.models.calibration import THRESHOLD
from surveillance_pipelines.training.bundle_training import TrainedBundle
from surveillance_pipelines.training.figures import BLUE, GREEN, GREY, ORANGE, PALE, new_figure, to_png
from surveillance_pipelines.training.member import TrainedMember
from surveillance_pipelines.training.report import EvaluatedRows, Evaluation, event_recall

Floats = npt.NDArray[np.float64]

MAX_BARS: Final = 20


def training_figures(trained: TrainedBundle) -> dict[str, bytes]:
    """Return plots of the training: the losses of all members; by member, its feature importance and own figures."""
    plots = {"losses": losses(trained.members)}
    for name, member in trained.members.items():
        if member.importance is not None:
            columns = [column.rpartition(".")[2] for column in member.spec.input.columns]
            plots[f"{name}_importance"] = feature_importance(member.importance, columns, f"The {name}")
        plots |= {f"{name}_{figure}": png for figure, png in member.figures.items()}
    return plots


def evaluation_figures(evaluation: Evaluation) -> dict[str, bytes]:
    """Return plots of the evaluation on held-out days."""
    evaluated = evaluation.evaluated
    return {
        **{
            plot.statistic: statistic_histogram(evaluated, evaluation.split, plot)
            for plot in STATISTIC_PLOTS
            if plot.statistic in evaluated.predictions.statistics
        },
        "roc_pr": roc_and_pr(evaluated, evaluation.split),
        "confusion": confusion(evaluated, evaluation.split),
        "event_recall": events_found(evaluated, evaluation.split),
    }


def losses(members: Mapping[str, TrainedMember]) -> bytes:
    """Draw the loss of every member per epoch (left) and per boosting round (right)."""
    figure, panels = new_figure(10, 3.8, columns=2)
    units = (("epoch", "Networks", "loss"), ("round", "Boosted ensembles", "log loss (nats)"))
    for axes, (unit, title, label) in zip(panels, units, strict=True):
        drawn = [
            (f"{name}, {curve}", values)
            for name, member in members.items()
            if member.loss_unit == unit
            for curve, values in member.curves.items()
        ]
        for (name, values), colour in zip(drawn, cycle((BLUE, GREY, ORANGE, GREEN)), strict=False):
            axes.plot(
                np.arange(1, len(values) + 1), values, color=colour, label=name, marker="." if unit == "epoch" else ""
            )
        axes.set(title=title, xlabel=unit, ylabel=label)
        if drawn:
            axes.legend(frameon=False, loc="upper right")
    return to_png(figure)


def feature_importance(importance: Floats, columns: Sequence[str], model: str) -> bytes:
    """Draw the columns with the largest total gain."""
    best = np.argsort(-importance, kind="stable")[:MAX_BARS][::-1]
    figure, (axes,) = new_figure(8, 5.5)
    axes.barh([columns[k] for k in best], 100.0 * importance[best], color=BLUE)
    axes.set(title=f"{model}: feature importance", xlabel="share of the total gain (%)")
    axes.grid(visible=False, axis="y")
    return to_png(figure)


@dataclass(frozen=True, slots=True)
class StatisticPlot:
    """How the histogram of a member's statistic is drawn."""

    member: str
    statistic: str
    title: str
    unit: str
    least: float
    logarithmic: bool


STATISTIC_PLOTS: Final = (
    StatisticPlot("tail_detector", "tail_surprise", "Tail detector: weighted surprise", "nats", 0.0, logarithmic=False),
    StatisticPlot(
        "autoencoder",
        "reconstruction_error",
        "Autoencoder: reconstruction error",
        "mean squared error (scaled units, logarithmic)",
        1e-4,
        logarithmic=True,
    ),
)


def statistic_histogram(evaluated: EvaluatedRows, split: str, plot: StatisticPlot) -> bytes:
    """Draw histograms of a statistic for unchanged bars and planted anomalies, and its alert threshold, if any."""
    values = np.maximum(evaluated.predictions.statistic(plot.statistic), plot.least)
    spaced = np.geomspace if plot.logarithmic else np.linspace
    edges = spaced(values.min(), values.max() * 1.001 + plot.least, 60)
    figure, (axes,) = new_figure(8, 4.2)
    for mask, colour, name in ((evaluated.original, BLUE, "unchanged bars"), (evaluated.planted, ORANGE, "planted")):
        weights = np.full(int(mask.sum()), 100.0 / max(int(mask.sum()), 1))
        label = f"{name} ({int(mask.sum()):,})"
        axes.hist(values[mask], bins=edges.tolist(), weights=weights, color=colour, alpha=0.6, label=label)
    alerting = values[evaluated.predictions.detector_score(plot.member) >= THRESHOLD]
    if len(alerting):
        axes.axvline(float(alerting.min()), color=GREY, linestyle="--", label="alert threshold")
    if plot.logarithmic:
        axes.set_xscale("log")
    axes.set(title=f"{plot.title} on the {split} days", xlabel=plot.unit, ylabel="bars of each group (%)")
    axes.legend(frameon=False, loc="upper right")
    return to_png(figure)


def roc_and_pr(evaluated: EvaluatedRows, split: str) -> bytes:
    """Draw ROC and precision-recall curves of each detector and of the fused score."""
    figure, (left, right) = new_figure(10, 4.6, columns=2)
    predictions = evaluated.predictions
    scores = [("fused", predictions.anomaly_score)]
    scores += [(name, predictions.detector_score(name)) for name in predictions.detectors]
    styles = cycle(zip((BLUE, ORANGE, GREEN, GREY), ("-", "--", "-.", ":"), strict=True))
    for (name, score), (colour, line) in zip(scores, styles, strict=False):
        wrong, found, _ = roc_curve(evaluated.planted, score)
        precision, recall, _ = precision_recall_curve(evaluated.planted, score)
        left.plot(wrong, found, color=colour, linestyle=line, label=name)
        right.plot(recall, precision, color=colour, linestyle=line, label=name)
    left.plot([0, 1], [0, 1], color=PALE, label="chance")
    right.axhline(float(evaluated.planted.mean()), color=PALE, label="chance")
    left.set(title=f"ROC, {split} days", xlabel="false positive rate", ylabel="true positive rate")
    right.set(title=f"Precision and recall, {split} days", xlabel="recall (rate)", ylabel="precision (rate)")
    left.legend(frameon=False, loc="lower right")
    right.legend(frameon=False, loc="center left")
    return to_png(figure)


def confusion(evaluated: EvaluatedRows, split: str) -> bytes:
    """Draw the confusion matrix in percent of the actual kind."""
    table = confusion_matrix(evaluated.actual, evaluated.predicted, len(evaluated.labels))
    rates = 100.0 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, (axes,) = new_figure(9.5, 8)
    axes.grid(visible=False)
    image = axes.imshow(rates, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="bars of the actual kind (%)", shrink=0.8)
    _label_cells(axes, rates, table)
    names = [label.replace("_", " ") for label in evaluated.labels]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), [f"{n} ({c:,})" for n, c in zip(names, table.sum(axis=1), strict=True)])
    axes.set(title=f"Anomaly classifier, bars of the {split} days", xlabel="predicted", ylabel="actual (bars)")
    return to_png(figure)


def _label_cells(axes: Axes, rates: Floats, table: npt.NDArray[np.int64]) -> None:
    for row, column in zip(*np.nonzero(table), strict=True):
        rate = rates[row, column]
        text = f"{rate:.0f}" if rate >= 0.5 else "<1"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if rate > 55 else "#333")


def events_found(evaluated: EvaluatedRows, split: str) -> bytes:
    """Draw, per kind, the share of planted anomalies found by any alert, and found by an alert of the correct kind."""
    events = event_recall(evaluated)
    figure, (axes,) = new_figure(8.5, 4.6)
    places = np.arange(len(events))
    for shift, column, colour, name in (
        (0.2, "found", PALE, "found"),
        (-0.2, "named", BLUE, "found with the correct kind"),
    ):
        axes.barh(places + shift, 100.0 * events[column].to_numpy(), height=0.38, color=colour, label=name)
    axes.set_yticks(
        places, [f"{label.replace('_', ' ')} ({n})" for label, n in events.select("label", "planted").rows()]
    )
    axes.grid(visible=False, axis="y")
    axes.set(
        title=f"Planted anomalies of the {split} days, at the alert threshold",
        xlabel="events with at least one alert (%)",
        xlim=(0, 100),
    )
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2)
    return to_png(figure)


def drift(indices: Mapping[str, float]) -> bytes:
    """Draw the largest population stability indices, with the customary thresholds."""
    known = {name: value for name, value in indices.items() if np.isfinite(value)}
    worst = sorted(known, key=lambda name: known[name])[-MAX_BARS:]
    values = [known[name] for name in worst]
    colours = [ORANGE if value > PSI_ALERT else (BLUE if value > PSI_NOTICE else PALE) for value in values]
    figure, (axes,) = new_figure(8, 5.5)
    axes.barh(worst, values, color=colours)
    for mark, name in ((PSI_NOTICE, "shifted"), (PSI_ALERT, "different population")):
        axes.axvline(mark, color=GREY, linestyle="--", linewidth=1)
        axes.annotate(name, (mark, 1.0), xycoords=("data", "axes fraction"), fontsize=8, color=GREY, va="bottom")
    axes.set_title("Feature drift relative to the training data", pad=16)
    axes.set(xlabel="population stability index", xlim=(0, max(0.3, *values, 0.3) * 1.05))
    axes.grid(visible=False, axis="y")
    return to_png(figure)
