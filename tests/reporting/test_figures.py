"""Figures are whole PNGs, show what they are given, and survive what runs can bring."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from matplotlib.image import imread

from geotl.evaluation.evaluate import evaluate, reliability, wilson
from geotl.reporting import curve_figures, figures
from geotl.reporting.curve_figures import head_figure
from geotl.reporting.figures import (
    baselines_figure,
    calibration_figure,
    confusion_figure,
    curves_figure,
    mistakes_figure,
    penalties_figure,
    write_png,
)

EUROSAT = [
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
]
ROWS = [
    {"epoch": e, "train_loss": 1 / (e + 1), "val_loss": 1.2 / (e + 1), "train_accuracy": 0.1 * e}
    | {"val_accuracy": 0.09 * e, "lr": 1e-3}
    for e in range(6)
]


def pixels(png: bytes) -> np.ndarray:
    """Decode a PNG to uint8 [H, W, 3]; a broken one is an error."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return np.rint(imread(io.BytesIO(png))[..., :3] * 255).astype(np.uint8)


def has(png: bytes, colour: tuple[int, int, int]) -> bool:
    """Whether some pixel has this colour."""
    return bool((np.abs(pixels(png).astype(int) - colour).max(-1) <= 3).any())


def texts(monkeypatch, draw) -> list[str]:
    """Every text that a figure writes, axis labels and titles included."""
    seen = []
    keep = figures.encoded

    def listen(figure):
        figure.draw_without_rendering()
        for axes in figure.axes:
            lines = [axes.get_title(loc="left"), axes.get_title(), axes.get_xlabel()]
            lines += [axes.get_ylabel(), *(t.get_text() for t in axes.texts)]
            lines += [t.get_text() for t in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
            if axes.get_legend():
                lines += [t.get_text() for t in axes.get_legend().get_texts()]
            seen.extend(lines)
        seen.extend(t.get_text() for t in figure.texts)
        return keep(figure)

    monkeypatch.setattr(figures, "encoded", listen)
    draw()
    return seen


def test_the_confusion_figure_names_classes_counts_and_sizes(monkeypatch):
    matrix = np.diag([7, 6, 5])
    matrix[0, 2] = 3
    seen = texts(monkeypatch, lambda: confusion_figure(matrix, ["wood", "field", "water"]))
    assert {"7", "6", "5", "3"} <= set(seen)
    assert {"wood (10)", "field (6)", "water (5)", "predicted"} <= set(seen)
    assert "0" not in seen


def test_right_answers_are_blue_and_mistakes_orange():
    right = confusion_figure([[5, 0], [0, 5]], ["a", "b"])
    wrong = confusion_figure([[0, 5], [5, 0]], ["a", "b"])
    blue, orange = (8, 69, 126), (168, 63, 0)
    assert has(right, blue)
    assert not has(right, orange)
    assert has(wrong, orange)
    assert not has(wrong, blue)


@pytest.mark.parametrize("n", [2, 10, 21])
def test_a_confusion_cell_keeps_its_size_whatever_the_number_of_classes(n):
    names = (EUROSAT * 3)[:n]
    image = pixels(confusion_figure(np.eye(n, dtype=int) * 12, names))
    assert image.shape[1] > n * 55  # dots of 1/144 inch for each cell
    assert 0.75 < image.shape[0] / image.shape[1] < 1.3


def test_equal_figures_are_equal_bytes_and_others_differ():
    first = confusion_figure([[5, 1], [0, 5]], ["a", "b"])
    assert first == confusion_figure([[5, 1], [0, 5]], ["a", "b"])
    assert first != confusion_figure([[5, 0], [1, 5]], ["a", "b"])


def test_curves_are_labelled_for_what_they_are(monkeypatch):
    seen = texts(monkeypatch, lambda: curves_figure(ROWS, best_epoch=4))
    assert {"loss", "accuracy", "learning rate", "epoch"} <= set(seen)
    assert {"training", "held out", "kept epoch"} <= set(seen)


def test_curves_without_validation_leave_it_out(monkeypatch):
    rows = [{"epoch": r["epoch"], "train_loss": r["train_loss"], "val_loss": None} for r in ROWS]
    seen = texts(monkeypatch, lambda: curves_figure(rows))
    assert "training" in seen
    assert "held out" not in seen
    assert "accuracy" not in seen


def test_each_panel_adds_its_width():
    one = pixels(curves_figure([{"epoch": 0, "train_loss": 1.0}]))
    assert pixels(curves_figure(ROWS)).shape[1] > 2.2 * one.shape[1]


def test_histories_read_back_from_csv_as_text_are_drawn():
    text = [{name: str(value) for name, value in row.items()} for row in ROWS]
    assert curves_figure(text) == curves_figure(ROWS)


def test_nothing_to_draw_is_said_in_words(monkeypatch):
    assert "No epochs" in " ".join(texts(monkeypatch, lambda: curves_figure([])))
    assert "No mistakes" in " ".join(texts(monkeypatch, lambda: mistakes_figure([], [], [], [])))
    assert "No penalties" in " ".join(
        texts(monkeypatch, lambda: penalties_figure([], [], 1.0, "C"))
    )
    assert "Nothing" in " ".join(texts(monkeypatch, lambda: baselines_figure([])))


def test_the_chosen_penalty_is_named_with_what_chose_it(monkeypatch):
    tried, found = [0.4, 0.1, 0.2], [0.5, 0.6, 0.7]
    seen = texts(monkeypatch, lambda: penalties_figure(tried, found, 0.1, "shrinkage"))
    assert {"chosen by log-loss: 0.1", "shrinkage", "0.1", "0.2", "0.4"} <= set(seen)
    assert not [text for text in seen if "$" in text]


@pytest.mark.parametrize(
    ("folds", "said"), [(0.6, "chosen by log-loss in the folds: 0.4"), (None, "taken: 0.4")]
)
def test_the_curve_of_a_diagnosis_says_what_chose_the_head(monkeypatch, folds, said):
    caught = []
    monkeypatch.setattr(curve_figures, "encoded", caught.append)
    path = [{"setting": s, "folds": folds, "train": 0.9} for s in (0.1, 0.4)]
    head_figure({"kind": "discriminant", "chosen": 0.4, "path": path}, None)
    assert said in [text.get_text() for text in caught[0].legends[0].get_texts()]


def tiles(n: int) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), (10 + 8 * i, 250 - 8 * i, 60), np.uint8) for i in range(n)])


def test_mistakes_show_the_most_confident_first_and_no_more_than_asked(monkeypatch):
    sure = np.linspace(0.3, 0.9, 30)
    seen = texts(
        monkeypatch,
        lambda: mistakes_figure(tiles(30), ["wood"] * 30, ["field"] * 30, sure, most=24),
    )
    shown = [text for text in seen if text.endswith("sure")]
    assert shown[0] == "90% sure"
    assert len(shown) == 24
    assert seen.count("→ field") == 24


def test_mistakes_show_the_tiles_themselves():
    png = mistakes_figure(tiles(2), ["a", "a"], ["b", "b"], [0.5, 0.6])
    assert has(png, (10, 250, 60))
    assert has(png, (18, 242, 60))
    assert not has(png, (26, 234, 60))


@pytest.mark.parametrize("draw", ["mistakes", "confusion"])
def test_no_text_runs_into_another_or_off_the_figure(monkeypatch, draw):
    boxes = []

    def measure(figure):
        figure.draw_without_rendering()
        for axes in figure.axes:
            words = [*axes.texts, *axes.get_yticklabels()] if axes.axison else axes.texts
            boxes.extend(t.get_window_extent() for t in words if t.get_text())
        boxes.append(figure.bbox)
        return b""

    monkeypatch.setattr(figures, "encoded", measure)
    if draw == "mistakes":
        mistakes_figure(tiles(9), [EUROSAT[2]] * 9, [EUROSAT[2]] * 9, [0.5] * 9)
    else:
        confusion_figure(np.full((10, 10), 128), EUROSAT)
    *words, canvas = boxes
    assert len(words) >= 27
    for place, box in enumerate(words):
        assert canvas.x0 <= box.x0
        assert box.x1 <= canvas.x1
        assert canvas.y0 <= box.y0
        assert not any(box.overlaps(other) for other in words[:place])


def test_baselines_stand_best_on_top_with_the_network_in_blue(monkeypatch):
    rows = [
        ("this network", *wilson(34, 40)),
        ("majority class", 0.2, math.nan, math.nan),
        ("band statistics", *wilson(36, 40)),
    ]
    seen = texts(monkeypatch, lambda: baselines_figure(rows))
    names = [text for text in seen if text in {row[0] for row in rows}]
    assert names == ["majority class", "this network", "band statistics"]  # from the bottom up
    assert {"0.850", "0.200", "0.900"} <= set(seen)
    assert has(baselines_figure(rows), (11, 95, 165))
    assert baselines_figure(rows) != baselines_figure(rows, "band statistics")


def test_calibration_states_both_errors(monkeypatch):
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(80, 3)) * 3, rng.integers(0, 3, 80)
    found = evaluate(logits, truth, ["a", "b", "c"], temperature=4.0, rounds=5)
    seen = texts(monkeypatch, lambda: calibration_figure(found.before, found.after, 4.0))
    assert f"as trained: error {found.before.error:.3f}" in seen
    assert f"temperature 4.00: error {found.after.error:.3f}" in seen


def test_calibration_keeps_dots_whole_and_those_of_few_tiles_pale(monkeypatch):
    caught = []
    monkeypatch.setattr(figures, "encoded", caught.append)
    chances = [[0.9999, 0.0001]] * 71 + [[0.7, 0.3]] * 4
    bins = reliability(chances, [0] * 64 + [1] * 7 + [0] * 4)
    calibration_figure(bins, bins, 1.0)
    for axes in caught[0].axes:
        caught[0].draw_without_rendering()
        pale, full = axes.collections[1], axes.collections[3]
        assert pale.get_offsets().tolist() == [[pytest.approx(0.7), 1.0]]
        assert pale.get_sizes()[0] < full.get_sizes()[0]
        assert tuple(pale.get_facecolor()[0]) != tuple(full.get_facecolor()[0])
        radius = np.sqrt(full.get_sizes()[0]) / 2 * caught[0].dpi / 72
        middle = axes.transData.transform(full.get_offsets()[0])[0]
        assert middle + radius <= axes.bbox.x1


def test_a_png_is_written_whole(tmp_path):
    png = confusion_figure([[1, 0], [0, 1]], ["a", "b"])
    write_png(tmp_path / "confusion.png", png)
    assert (tmp_path / "confusion.png").read_bytes() == png
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]
