"""The same draws, weights and cut network under torchgeo, a fastai-style schedule, and geotl.

    python benchmarks/peers.py [--draws 3] [--shots 10 50] [--record fits.jsonl]
                               [--data ../shared/data]

The network is ResNet-18 with layer4 the identity. torchgeo's ClassificationTask runs at its
defaults (lr 1e-3) and at 1e-4 and 1e-2, 30 epochs, tiles in memory; the fastai-style schedule is
fine_tune written out by hand: one frozen epoch at 2e-3, then 29 with geometric rates, one-cycle.
Both normalise by ImageNet's mean and sd. Time is from tiles in memory to a fitted model. With
`--record` each fit is a line of a file, and a later call makes only those that it lacks.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchgeo.trainers import ClassificationTask
from torchvision.models import resnet18

from geotl.console import silent
from geotl.data.splits import Split
from geotl.experiments import build, compare
from geotl.experiments.draws import make_draw
from geotl.experiments.named import recipe_sensor
from geotl.experiments.recipe import load
from geotl.experiments.samples import read_samples
from geotl.models.normalisation import IMAGENET

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = "weights/resnet18-imagenet1k_v1-conv1_to_layer3.pth"
MEAN, SD = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET.mean, IMAGENET.sd))
EPOCHS, BATCH = 30, 32


def cut_network(weights: Path, classes: int) -> nn.Module:
    """ResNet-18 whose layer4 is the identity, with the file's weights and a fresh head."""
    network = resnet18()
    network.layer4 = nn.Identity()
    network.fc = nn.Linear(256, classes)
    missing = network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if set(missing.missing_keys) != {"fc.weight", "fc.bias"}:
        raise SystemExit(f"{weights}: does not fill the network: {missing.missing_keys}")
    return network


class AsDict(TensorDataset):
    """Tensors as the dictionaries torchgeo's task takes."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One tile and its label."""
        image, label = super().__getitem__(index)
        return {"image": image, "label": label}


def torchgeo(rate: float) -> Callable[[Tensor, Tensor, Path, int], nn.Module]:
    """A ClassificationTask at one learning rate; the rest as it comes."""

    def fit(image: Tensor, label: Tensor, weights: Path, classes: int) -> nn.Module:
        task = ClassificationTask(model="resnet18", in_channels=3, num_classes=classes, lr=rate)
        task.model = cut_network(weights, classes)
        trainer = lightning.Trainer(
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        tiles = AsDict(image, label)
        # its scheduler insists on a validation loss; the drawn tiles are the only labels there are
        trainer.fit(task, DataLoader(tiles, BATCH, shuffle=True), DataLoader(tiles, BATCH))
        return task.model

    return fit


def fastai_style(image: Tensor, label: Tensor, weights: Path, classes: int) -> nn.Module:
    """fine_tune as fastai documents it: frozen epoch, then discriminative one-cycle."""
    network = cut_network(weights, classes).train()
    body = [p for n, p in network.named_parameters() if not n.startswith("fc")]
    early = [p for n, p in network.named_parameters() if n.startswith(("conv1", "bn1", "layer1"))]
    late = [p for p in body if all(p is not e for e in early)]
    cycle(network, [(list(network.fc.parameters()), 2e-3)], 1, image, label)
    rates = [(early, 1e-3 / 100), (late, 1e-3 / 10), (list(network.fc.parameters()), 1e-3)]
    cycle(network, rates, EPOCHS - 1, image, label)
    return network


def cycle(network: nn.Module, groups: list, epochs: int, image: Tensor, label: Tensor) -> None:
    """One cycle of AdamW over the groups' rates."""
    optimizer = torch.optim.AdamW(
        [{"params": p, "lr": rate} for p, rate in groups], weight_decay=0.01
    )
    loader = DataLoader(TensorDataset(image, label), batch_size=BATCH, shuffle=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [rate for _, rate in groups],
        epochs=epochs,
        steps_per_epoch=len(loader),
        pct_start=0.3,
    )
    for _ in range(epochs):
        for x, y in loader:
            flipped = torch.flip(x, [3]) if torch.rand(()) < 0.5 else x
            loss = nn.functional.cross_entropy(network(flipped), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.inference_mode()
def accuracy(network: nn.Module, image: Tensor, label: Tensor) -> float:
    network.eval()
    said = torch.cat([network(part).argmax(1) for part in image.split(256)])
    return float((said == label).float().mean())


def ours(data: Path, name: str, shots: int, draw: int) -> tuple[float, float]:
    """The shipped recipe on one draw from cold: (seconds to a fitted model, accuracy)."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = scratch
        recipe = load(
            name,
            [f"data.root={data / name}", f"model.weights={data / WEIGHTS}", f"split.shots={shots}"],
        )
        opened = build.open_experiment(recipe, Path(scratch) / "run", log=silent, quiet=True)
        begun = time.perf_counter()
        made = compare.fit_draw(opened, opened.draw(draw))
        seconds = time.perf_counter() - begun
        logits = compare.logits_of_test(opened, made)
        truth = opened.samples.labels[made.draw.split.test]
        return seconds, float((logits.argmax(1) == truth).mean())


def theirs(
    fit: Callable[[Tensor, Tensor, Path, int], nn.Module],
    image: Tensor,
    label: Tensor,
    split: Split,
    *,
    data: Path,
    draw: int,
) -> tuple[float, float]:
    """Another method on one draw: (seconds to a fitted model, accuracy)."""
    torch.manual_seed(draw)
    begun = time.perf_counter()
    network = fit(image[split.train], label[split.train], data / WEIGHTS, 10)
    seconds = time.perf_counter() - begun
    return seconds, accuracy(network, image[split.test], label[split.test])


class Record:
    """Finished fits, one a line of a file; without a file every fit is made."""

    def __init__(self, path: Path | None, shots: int) -> None:
        """Read what earlier calls left at `path`; fits at `shots` labels a class are asked for."""
        self.path, self.shots = path, shots
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        rows = [json.loads(line) for line in lines]
        self.done = {tuple(row[:3]): (row[3], row[4]) for row in rows}

    def of(
        self, draw: int, method: str, fit: Callable[[], tuple[float, float]]
    ) -> tuple[float, float]:
        """(seconds, accuracy) of a draw by a method, from the file or fitted and written to it."""
        key = (self.shots, draw, method)
        if key not in self.done:
            self.done[key] = fit()
            if self.path is not None:
                with self.path.open("a") as lines:
                    lines.write(json.dumps([*key, *self.done[key]]) + "\n")
        return self.done[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--shots", type=int, nargs="+", default=[10])
    default = os.environ.get("GEOTL_DATA", HERE.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--record", type=Path, help="file of finished fits, to go on from")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # tensors are in memory
    warnings.filterwarnings("ignore", ".*number of training batches.*")  # about log lines only
    name = "eurosat_rgb"
    recipe = load(name, [f"data.root={args.data / name}", f"model.weights={args.data / WEIGHTS}"])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["GEOTL_CACHE"] = scratch
        source = read_samples(recipe, recipe_sensor(recipe), silent, quiet=True)
        pixels = torch.from_numpy(np.array(source.pack.images)).float() / 255
    image, label = (pixels - MEAN) / SD, torch.from_numpy(source.labels)
    rivals = {f"torchgeo, lr {rate:g}": torchgeo(rate) for rate in (1e-3, 1e-4, 1e-2)}
    rivals["fastai-style fine_tune"] = fastai_style
    for shots in args.shots:
        table: dict[str, list[tuple[float, float]]] = {}
        record = Record(args.record, shots)
        for draw in range(args.draws):
            shot = recipe.model_copy(
                update={"split": recipe.split.model_copy(update={"shots": shots})}
            )
            split = make_draw(shot, source, draw).split
            fits = {"geotl": functools.partial(ours, args.data, name, shots, draw)}
            for rival, fit in rivals.items():
                fits[rival] = functools.partial(
                    theirs, fit, image, label, split, data=args.data, draw=draw
                )
            for method, fit in fits.items():
                table.setdefault(method, []).append(record.of(draw, method, fit))
                print_fit(draw, method, *table[method][-1])
        print_table(shots, table)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


def print_fit(draw: int, method: str, seconds: float, score: float) -> None:
    """A line as soon as a fit is done, so that a run that is stopped leaves what it found."""
    print(f"  draw {draw}, {method}: {100 * score:.1f} %, {seconds:.1f} s", flush=True)


def print_table(shots: int, table: dict[str, list[tuple[float, float]]]) -> None:
    base = [seconds for seconds, _ in table["geotl"]]
    print(f"{name_of(shots):32} accuracy       seconds (median, range)   geotl's time / its time")
    for rival, rows in table.items():
        seconds = [s for s, _ in rows]
        ratio = statistics.median(o / s for o, s in zip(base, seconds, strict=True))
        scores = [100 * a for _, a in rows]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        print(
            f"{rival:32} {statistics.mean(scores):5.1f} ± {spread:3.1f} %   "
            f"{statistics.median(seconds):6.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
            f"{'':12}{ratio:.2f}",
            flush=True,
        )


def name_of(shots: int) -> str:
    return f"eurosat_rgb, {shots} labels a class"


if __name__ == "__main__":
    main()
