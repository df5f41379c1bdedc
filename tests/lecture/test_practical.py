"""The practical: its notebook runs and is the builder's, its checks tell right from wrong."""

from __future__ import annotations

import base64
import gzip
import importlib
import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
import torchvision.datasets
from torch import nn

from geotl.errors import DataError

pytest.importorskip("nbformat", reason="the notebook needs the extra `practical`")
pytest.importorskip("nbclient", reason="the notebook needs the extra `practical`")
pytest.importorskip("ipykernel", reason="the notebook needs the extra `practical`")

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "practical"
EXERCISES = ("lenet5", "bug_standardise", "bug_figure", "bug_encoder")
SETS = (("MNIST", 1), ("FashionMNIST", 2))


@pytest.fixture(scope="module", autouse=True)
def beside():
    """The practical's own modules, as its notebook finds them."""
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))


def own(name: str):
    return importlib.import_module(name)


def write_idx(path: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data = head + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_set(folder: Path, seed: int, ending: str = ".gz", count: int = 100) -> None:
    """A stroke a class, ten classes, in the four files of an MNIST-like set."""
    random = np.random.default_rng(seed)
    for part, most in (("train", count), ("t10k", count // 2)):
        labels = np.arange(most) % 10
        images = random.integers(0, 60, (most, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 4 : 2 * label + 7, 4:24] = 250
        write_idx(folder / "raw" / f"{part}-images-idx3-ubyte{ending}", images)
        write_idx(folder / "raw" / f"{part}-labels-idx1-ubyte{ending}", labels)


@pytest.fixture(scope="module")
def users_files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mnist")
    for name, seed in SETS:
        write_set(folder / name, seed)
    return folder


@pytest.fixture(scope="module")
def committed():
    return own("nbformat").read(str(HERE / "practical.ipynb"), as_version=4)


def printed(book) -> str:
    outputs = [o for cell in book.cells for o in cell.get("outputs", ())]
    return "\n".join(o["text"] for o in outputs if "text" in o)


def pictures_of(book) -> list[np.ndarray]:
    found = [o.data["image/png"] for c in book.cells for o in c.get("outputs", ()) if "data" in o]
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(png))) for png in found]


def test_the_committed_notebook_holds_the_script_s_cells(committed):
    wanted = own("make_practical").notebook((HERE / "practical.py").read_text())
    assert [(c.cell_type, c.id, c.source) for c in committed.cells] == [
        (c.cell_type, c.id, c.source) for c in wanted.cells
    ]
    code = [c for c in committed.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))


def test_the_committed_notebook_is_small_and_tells_nothing_of_a_machine(committed):
    text = (HERE / "practical.ipynb").read_text()
    assert len(text) < 1_500_000
    told = printed(committed)
    assert not any(word in told for word in ("/home", "/tmp", "/work", "/root", str(Path.home())))
    assert all(not cell.metadata for cell in committed.cells)  # execution times would stand there
    assert len(pictures_of(committed)) == 4
    kinds = [[o.output_type for o in cell.get("outputs", ())] for cell in committed.cells]
    assert all(cell.count("stream") <= 1 for cell in kinds)  # not cut where time happened to cut


def test_the_committed_notebook_says_what_the_lecture_says(committed):
    told = printed(committed)
    assert "138,357,544" in told
    assert "MNIST: 35,650 paramètres entraînables | trainable parameters" in told
    assert "underfitting:" in told or "overfitting:" in told or "just right:" in told
    text = " ".join(c.source for c in committed.cells)
    assert "annonce InceptionV3, mais son code charge VGG16" in text


@pytest.mark.parametrize(
    ("name", "before"),
    [("README.md", "(`make practical`):"), ("README.fr.md", "(`make practical`) :")],
)
def test_the_readme_quotes_the_committed_notebook(committed, name, before):
    quoted = (HERE / name).read_text(encoding="utf-8").partition(f"{before}\n\n")[2]
    lines = [line.removeprefix("    ") for line in quoted.partition("\n\n")[0].splitlines()]
    assert len(lines) == 11
    assert not set(lines) - set(printed(committed).replace("\xa0", " ").splitlines())


@pytest.fixture
def quick(monkeypatch):
    """One epoch, on geotl as it stands beside this test."""
    monkeypatch.setenv("GEOTL_PRACTICAL_EPOCHS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("GEOTL_MNIST", raising=False)


def test_the_notebook_runs_on_the_user_s_files(users_files, tmp_path, quick):
    """Made files in MNIST's format: 28 px, one channel, ten classes."""
    out = tmp_path / "practical.ipynb"
    assert own("make_practical").main(["--data", str(users_files), "--out", str(out)]) == 0
    book = own("nbformat").read(str(out), as_version=4)
    told = printed(book)
    assert "Fashion-MNIST : 100 images pour apprendre, 50 pour tester" in told
    assert "ici | here: 35,650" in told
    assert "70 images to learn from, 30 to validate on" in told
    assert "numbers that mean something else" not in told  # they do already
    assert str(users_files) not in out.read_text()
    assert len(pictures_of(book)) == 4


def test_the_notebook_trains_a_right_lenet_on_the_tiles(tmp_path, quick, monkeypatch):
    """In a student's folder, where the exercises have become the solutions."""
    builder = own("make_practical")
    folder = tmp_path / "practical"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
    shutil.copytree(folder / "solutions", folder / "exercises", dirs_exist_ok=True)
    monkeypatch.setattr(builder, "HERE", folder)
    book = builder.executed(builder.notebook((folder / "practical.py").read_text()))
    told = printed(book)
    assert told.count("juste | right") == 4
    assert "LeNet-5, tuiles d'exemple, source\n   exactitude globale" in told
    assert "numbers that mean something else" in told
    assert len(pictures_of(book)) == 5


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("raise ValueError('no such thing')", "a cell failed: ValueError: no such thing"),
        ("import os; os._exit(3)", "did not run to its end: Kernel died"),
        ("import sys; print('careful', file=sys.stderr)", "wrote to standard error: careful"),
        ("import pictures; pictures.load('nowhere')", "DataError: nowhere: no MNIST/raw/train-"),
    ],
)
def test_a_cell_that_fails_is_one_line_and_writes_nothing(
    tmp_path, monkeypatch, capsys, quick, cell, words
):
    builder = own("make_practical")
    (tmp_path / "bad.py").write_text(f"# %%\n{cell}\n")
    monkeypatch.setattr(builder, "SOURCE", tmp_path / "bad.py")
    assert builder.main(["--out", str(tmp_path / "x.ipynb")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("bad.py: ")
    assert words in told
    assert told.count("\n") == 1
    assert not (tmp_path / "x.ipynb").exists()


def test_the_small_cnn_has_35650_trainable_parameters():
    cell = next(
        source
        for _, source in own("make_practical").cells((HERE / "practical.py").read_text())
        if "def small_cnn" in source
    )
    space = {"nn": nn}
    exec(cell.partition("\n\n\nprint")[0], space)  # our own cell
    network = space["small_cnn"](1, 28, 10)
    assert own("practice").trainable(network) == 35_650
    convolutions = [m for m in network if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size) for c in convolutions] == [(16, (5, 5)), (8, (5, 5))]
    assert any(isinstance(m, nn.BatchNorm2d) for m in network)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_are_read_as_torchvision_reads_them(tmp_path, ending):
    write_set(tmp_path / "MNIST", 3, ending)
    data = own("pictures").mnist(tmp_path, "MNIST", tuple("0123456789"))
    if ending:  # torchvision unpacks what it has downloaded, and reads only that
        write_set(tmp_path / "MNIST", 3, "")
    for pictures, train in ((data.learn, True), (data.test, False)):
        reference = torchvision.datasets.MNIST(tmp_path, train=train, download=False)
        assert np.array_equal(pictures.images[:, 0], reference.data.numpy())
        assert np.array_equal(pictures.labels, reference.targets.numpy())


def test_1024_images_are_for_training(tmp_path):
    write_set(tmp_path / "MNIST", 3, count=1100)
    data = own("pictures").mnist(tmp_path, "MNIST", tuple("0123456789"))
    assert (len(data.learn), len(data.test)) == (1024, 550)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "no MNIST/raw/t10k-images-idx3-ubyte, nor with .gz"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot be read"),
        (lambda path: path.write_bytes(b"<html>"), "cannot be read"),
        (lambda path: path.write_bytes(gzip.compress(b"<html>")), "not an IDX file"),
        (
            lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9])),
            "truncated",
        ),
        (lambda path: write_idx(path, np.zeros((3, 28, 28))), "images of shape (3, 28, 28)"),
    ],
)
def test_a_file_that_will_not_do_is_told_of_in_one_line(tmp_path, spoil, words):
    write_set(tmp_path / "MNIST", 3)
    spoil(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(DataError) as caught:
        own("pictures").mnist(tmp_path, "MNIST", tuple("0123456789"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sample_tiles_are_tested_on_other_sites():
    for region in ("source", "target"):
        data = own("pictures").sample_tiles(region)
        learn, held = data.learn.split(0.3)
        assert not set(learn.groups) & set(held.groups)
        assert not set(data.learn.groups) & set(data.test.groups)
        assert 0.2 < len(held) / len(data.learn) < 0.4
        assert set(data.test.labels) == set(range(9))


def test_shifts_stay_within_their_share():
    images = torch.zeros(200, 1, 20, 30)
    images[:, :, 10, 15] = 1
    moved = own("practice").shifted(images, 0.1, torch.Generator().manual_seed(0))
    places = moved[:, 0].flatten(1).argmax(1)
    down, across = places // 30 - 10, places % 30 - 15
    assert (down.min(), down.max(), across.min(), across.max()) == (-2, 2, -3, 3)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_check_passes_the_solution_and_fails_the_exercise(name):
    check = own("check")
    assert check.fault(HERE / "solutions" / f"{name}.py") is None
    wrong = check.fault(HERE / "exercises" / f"{name}.py")
    assert wrong is not None
    assert "\n" not in wrong
    assert "error:" not in wrong  # what is wrong is seen, not stumbled over


def test_every_exercise_has_a_check_and_a_solution():
    assert set(own("check").CHECKS) == set(EXERCISES)
    for folder in ("exercises", "solutions"):
        assert {p.stem for p in (HERE / folder).glob("*.py")} == set(EXERCISES)


SOLVED = {name: (HERE / "solutions" / f"{name}.py").read_text() for name in EXERCISES}


@pytest.mark.parametrize(
    ("name", "right", "wrong", "words"),
    [
        (
            "lenet5",
            "nn.Linear(120, 84),\n        nn.Tanh(),\n        nn.Dropout(0.3),",
            "nn.Linear(120, 84),\n        nn.Tanh(),",
            "wanted conv pool drop",
        ),
        (
            "lenet5",
            "nn.AvgPool2d(2),\n        nn.Dropout(0.3),\n        nn.Flatten",
            "nn.AvgPool2d(2),\n        nn.Dropout(0.5),\n        nn.Flatten",
            "not 0.3",
        ),
        ("lenet5", ", padding=2", "", "mat1 and mat2"),
        ("lenet5", "120),\n", "121),\n", "mat1 and mat2"),
        ("lenet5", "lr=0.01", "lr=0.001", "not Adam 0.01"),
        ("lenet5", "torch.optim.Adam(", "torch.optim.SGD(", "not Adam 0.01"),
        ("lenet5", "made.parameters()", "list(made.parameters())[:-1]", "does not hold all"),
        ("lenet5", "write_png(path, curves_figure(history))", "pass", "no file"),
        ("lenet5", "curves_figure(history)", "curves_figure([])", "train_loss is not to be seen"),
        (
            "lenet5",
            "curves_figure(history)",
            "curves_figure([{**row, 'val_accuracy': 1} for row in history])",
            "val_accuracy is not to be seen",
        ),
        ("bug_standardise", "x_train.mean(), x_train.std()", "0, 1", "not 0 and 1"),
        (
            "bug_standardise",
            "(x_test - mean) / sd",
            "(x_test - x_test.mean()) / x_test.std()",
            "the same pixel",
        ),
        ("bug_figure", '["epoch"]', '["epoch_"]', "KeyError"),
        ("bug_figure", "set_ylabel(what)", 'set_ylabel("loss")', 'is called "loss"'),
        ("bug_figure", 'f"{side} {what}"', 'f"train {what}"', "has the legend"),
        ("bug_figure", '("train", "val")', '("train",)', "without curve"),
        ("bug_encoder", ".fit(train)", ".fit(train + test)", "test labels alone"),
        (
            "bug_encoder",
            "encoder.transform(train),",
            "encoder.transform(train)[::-1],",
            "do not give the names back",
        ),
    ],
)
def test_other_mistakes_are_seen_too(tmp_path, name, right, wrong, words):
    text = SOLVED[name]
    assert right in text
    answer = tmp_path / f"{name}.py"
    answer.write_text(text.replace(right, wrong))
    found = own("check").fault(answer)
    assert found is not None
    assert words in found
    assert "\n" not in found


def test_a_student_reads_one_line():
    done = subprocess.run(
        [sys.executable, "docs/practical/check.py", "exercises/bug_encoder.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")
    assert "glacier" in done.stdout


def test_names_and_files_that_will_not_do_are_one_line_too(tmp_path, capsys):
    check = own("check")
    assert check.main(["solutions/bug_encoder"]) == 0
    broken = tmp_path / "bug_encoder.py"
    broken.write_text("def encoded(:\n")
    assert check.main([str(broken)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[0] == "bug_encoder: juste | right"
    assert "SyntaxError" in said[1]
    assert "ligne | line 1" in said[1]
    assert check.main(["exercises/nothing.py"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "exercises/lenet5.py" in told
