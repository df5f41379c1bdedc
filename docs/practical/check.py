"""Say in one line whether an exercise is solved, and if not, what is wrong.

    python docs/practical/check.py exercises/lenet5.py

Exit code 0 if it is, 1 if it is not, 2 if there is no such exercise.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
DROPOUT, RATE, PARAMETERS = 0.3, 0.01, 61_706
ORDER = ("conv", "pool", "drop", "conv", "pool", "drop", "dense", "drop", "dense", "drop", "dense")
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv2d,),
    "pool": (nn.AvgPool2d, nn.MaxPool2d),
    "drop": (nn.Dropout, nn.Dropout2d),
    "dense": (nn.Linear,),
}


class Wrong(Exception):  # noqa: N818 - an answer that is not right is no error of the program
    """What is not right yet, in French and in English."""

    def __init__(self, french: str, english: str) -> None:
        """Join both on one line."""
        super().__init__(f"{french} | {english}")


def check_lenet5(answer: ModuleType) -> None:
    """Layers in their order, parameters, dropout off in evaluation, Adam, a figure that shows."""
    made = answer.network(1, 28, 10)
    found = _order(made, torch.zeros(2, 1, 28, 28))
    if found != list(ORDER):
        raise Wrong(
            f"network : les couches sont {' '.join(found)}; attendu {' '.join(ORDER)}",
            f"network: the layers are {' '.join(found)}; wanted {' '.join(ORDER)}",
        )
    rates = [m.p for m in made.modules() if isinstance(m, KINDS["drop"])]
    if set(rates) != {DROPOUT}:
        raise Wrong(f"network : dropout {rates}, attendu 0,3", f"network: dropout {rates}, not 0.3")
    count = sum(p.numel() for p in made.parameters())
    if count != PARAMETERS:
        raise Wrong(
            f"network : {count} paramètres, attendu {PARAMETERS}",
            f"network: {count} parameters, wanted {PARAMETERS}",
        )
    _check_adam(answer.optimizer(made), made)
    _check_plot(answer.plot)


def _order(network: nn.Module, images: Tensor) -> list[str]:
    """The kinds of layers in the order in which images meet them."""
    met: list[str] = []
    for module in network.modules():
        for kind, types in KINDS.items():
            if isinstance(module, types):
                module.register_forward_hook(lambda *_, kind=kind: met.append(kind))
    network.eval()(images)
    return met


def _check_adam(optimizer: torch.optim.Optimizer, made: nn.Module) -> None:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    rates = {group["lr"] for group in optimizer.param_groups}
    if type(optimizer) is not torch.optim.Adam or rates != {RATE}:
        name = f"{type(optimizer).__name__} {sorted(rates)}"
        raise Wrong(f"optimizer : {name}, attendu Adam 0,01", f"optimizer: {name}, not Adam 0.01")
    if held != {id(p) for p in made.parameters()}:
        raise Wrong(
            "optimizer : il n'a pas tous les paramètres du réseau",
            "optimizer: it does not hold all of the network's parameters",
        )


def _history(flat: str = "") -> list[dict[str, float]]:
    """Five epochs whose four columns differ at every epoch, but for one that may be flat."""
    return [
        {
            "epoch": e,
            "train_loss": 2 / e,
            "val_loss": 2.5 / e,
            "train_accuracy": 0.9 - 0.5 / e,
            "val_accuracy": 0.8 - 0.5 / e,
        }
        | ({flat: 0.6} if flat else {})
        for e in (1.0, 2.0, 3.0, 4.0, 5.0)
    ]


def _check_plot(plot: Callable[[list[dict[str, float]], Path], None]) -> None:
    """It writes a picture that is not empty, and another one when any column is another."""
    with tempfile.TemporaryDirectory() as folder:
        first = _drawn(plot, Path(folder) / "first.png")
        if first.std() == 0:
            raise Wrong("plot : la figure est vide", "plot: the figure is empty")
        for column in list(_history()[0])[1:]:
            if np.array_equal(first, _drawn(plot, Path(folder) / f"{column}.png", column)):
                raise Wrong(
                    f"plot : {column} ne se voit pas dans la figure",
                    f"plot: {column} is not to be seen in the figure",
                )


def _drawn(plot: Callable[..., None], path: Path, flat: str = "") -> Any:
    plot(_history(flat), path)
    if not path.is_file():
        raise Wrong("plot : aucun fichier écrit", "plot: no file was written")
    return imread(path, format="png")


def check_bug_standardise(answer: ModuleType) -> None:
    """The same image comes out the same on both sides, whatever else is among the test images."""
    random = np.random.default_rng(0)
    train = random.integers(0, 200, (8, 1, 4, 4), dtype=np.uint8)
    others = random.integers(100, 256, (5, 1, 4, 4), dtype=np.uint8)
    x_train, x_test = answer.prepared(train, np.concatenate([train[:1], others]))
    if not np.isclose(x_train.mean(), 0) or not np.isclose(x_train.std(), 1):
        raise Wrong(
            f"l'entraînement a pour moyenne {x_train.mean():.2f} et écart-type "
            f"{x_train.std():.2f}, au lieu de 0 et 1",
            f"training has mean {x_train.mean():.2f} and sd {x_train.std():.2f}, not 0 and 1",
        )
    if not np.allclose(x_train[0], x_test[0]):
        training, testing = x_train[0, 0, 0, 0], x_test[0, 0, 0, 0]
        raise Wrong(
            f"le même pixel vaut {training:.2f} à l'entraînement et {testing:.2f} à l'évaluation",
            f"the same pixel is {training:.2f} in training and {testing:.2f} in evaluation",
        )


def check_bug_figure(answer: ModuleType) -> None:
    """Each line is a column of the history, and axis and legend name that column."""
    history, drawn = _history(), set()
    figure: Figure = answer.curves(history)
    for axes in figure.axes:
        legend = axes.get_legend()
        said = [text.get_text() for text in legend.get_texts()] if legend else []
        for line, label in zip(axes.get_lines(), said, strict=False):
            column = _column(history, np.asarray(line.get_ydata(), dtype=float))
            side, _, what = column.partition("_")
            drawn.add(column)
            for words, place in ((label, "légende / legend"), (axes.get_ylabel(), "axe / axis")):
                if what not in words.lower():
                    raise Wrong(
                        f"la courbe {column} porte le nom « {words} » ({place})",
                        f'the curve {column} is called "{words}"',
                    )
            if side not in label.lower():
                raise Wrong(
                    f"la courbe {column} a pour légende « {label} »",
                    f'the curve {column} has the legend "{label}"',
                )
    missing = sorted(history[0].keys() - drawn - {"epoch"})
    if missing:
        names = ", ".join(missing)
        raise Wrong(f"sans courbe ou légende : {names}", f"without curve or legend: {names}")


def _column(history: list[dict[str, float]], values: Any) -> str:
    for name in history[0]:
        if len(values) == len(history) and np.allclose([row[name] for row in history], values):
            return name
    raise Wrong("une courbe n'est pas dans l'historique", "a curve is not in the history")


def check_bug_encoder(answer: ModuleType) -> None:
    """Numbers and classes depend on the training labels alone; an unknown class is an error."""
    train = ["meadow", "water", "meadow", "forest"]
    numbers, tested, classes = answer.encoded(train, ["water", "forest"])
    named = [[classes[n] for n in side] for side in (numbers, tested)]
    if named != [train, ["water", "forest"]]:
        raise Wrong("les numéros ne rendent pas les noms", "the numbers do not give the names back")
    try:
        *_, known = answer.encoded(train, ["water", "glacier"])
    except (ValueError, KeyError):
        return
    raise Wrong(
        f"{len(known)} classes, mais 3 à l'entraînement : « glacier » n'est que dans le test",
        f"{len(known)} classes, but 3 to learn from: glacier is in the test labels alone",
    )


CHECKS: dict[str, Callable[[ModuleType], None]] = {
    "lenet5": check_lenet5,
    "bug_standardise": check_bug_standardise,
    "bug_figure": check_bug_figure,
    "bug_encoder": check_bug_encoder,
}


def fault(path: Path) -> str | None:
    """What is wrong with an answer, in one line; None if it is right."""
    try:
        CHECKS[path.stem](imported(path))
    except Wrong as wrong:
        return str(wrong)
    except NotImplementedError as error:
        return f"pas encore écrit | not written yet{_place(error, path)}"
    except (Exception, SystemExit) as error:  # whatever a student's code may do, in one line
        words = " ".join(str(error).split())
        return f"erreur | error: {type(error).__name__}: {words}{_place(error, path)}"
    return None


def imported(path: Path) -> ModuleType:
    """An answer as a module, from its file as it is now."""
    spec = importlib.util.spec_from_file_location(f"answer_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException, path: Path) -> str:
    """The last line of the student's own file that the error went through."""
    if isinstance(error, SyntaxError):
        return f" (ligne | line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f" ({own[-1].name}, ligne | line {own[-1].lineno})" if own else ""


def main(arguments: list[str]) -> int:
    """Check one exercise."""
    matplotlib.use("Agg")  # no window opens
    given = Path(arguments[0]) if len(arguments) == 1 else Path()
    places = [one.with_suffix(".py") for one in (given, HERE / given) if one.name]
    path = next((place.resolve() for place in places if place.is_file()), None)
    if path is None or path.stem not in CHECKS:
        names = ", ".join(f"exercises/{name}.py" for name in CHECKS)
        print(f"{given}: pas d'exercice de ce nom | no such exercise; {names}", file=sys.stderr)
        return 2
    wrong = fault(path)
    print(f"{path.stem}: {wrong or 'juste | right'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
