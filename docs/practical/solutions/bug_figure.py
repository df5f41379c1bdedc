"""The mistake: the panel of accuracies is labelled "loss"."""

from __future__ import annotations

from matplotlib.figure import Figure

History = list[dict[str, float]]


def curves(history: History) -> Figure:
    """Two panels: loss, and accuracy, of training and validation by epoch."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for side in ("train", "val"):
            axes.plot(epochs, [row[f"{side}_{what}"] for row in history], label=f"{side} {what}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.legend()
    return figure
