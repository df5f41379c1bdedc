"""Trouvez l'erreur / spot the bug: la figure de l'historique / the figure of the history.

Quelqu'un lit dans cette figure que la perte augmente pendant que le réseau apprend. Pourquoi ?
In this figure one reads that the loss grows while the network learns. Why?

python docs/practical/check.py exercises/bug_figure.py
"""

from __future__ import annotations

from matplotlib.figure import Figure

History = list[dict[str, float]]


def curves(history: History) -> Figure:
    """Deux cadres : la perte, et l'exactitude, d'entraînement et de validation par époque.

    Two panels: loss, and accuracy, of training and validation by epoch.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    epochs = [row["epoch"] for row in history]
    left, right = figure.subplots(1, 2)
    for side in ("train", "val"):
        left.plot(epochs, [row[f"{side}_loss"] for row in history], label=f"{side} loss")
        right.plot(epochs, [row[f"{side}_accuracy"] for row in history], label=f"{side} loss")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.legend()
    return figure
