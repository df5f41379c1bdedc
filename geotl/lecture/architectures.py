"""Architectures shown: their parameters, and what LeNet-5, AlexNet and VGG-16 consist of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from geotl.lecture.figures import Bars, ClaimResult, Label, Lines, Pictures, Series, Shown
from geotl.lecture.recipes import BackboneTable, Levels, Pictured
from geotl.lecture.samples import standard_tiles
from geotl.lecture.texts import Both, grouped
from geotl.models.backbone import Backbone
from geotl.models.registry import build_backbone, get_backbone

SLIDE = {"lenet5": 60e3, "alexnet": 60e6, "vgg16": 138e6}  # the numbers on the slides
NEAR = 0.03
PARAMETERS = Both(fr="paramètres", en="parameters")
# LeNet-5's C3 of 1998: how many of the six maps each of its 16 filters reads (LeCun 1998, table I).
SPARSE_C3 = (3,) * 6 + (4,) * 9 + (6,)


def parameters_with_auxiliaries(name: str) -> tuple[int, int]:
    """Parameters of a backbone with its stock head, without and with auxiliary classifiers.

    >>> parameters_with_auxiliaries("googlenet")
    (6624904, 13004888)
    """
    spec = get_backbone(name)
    with torch.device("meta"):
        heads = [entry.build(1000) for entry in spec.auxiliary]
    extra = sum(p.numel() for head in heads for p in head.parameters())
    return spec.parameters, spec.parameters + extra


def parameter_table(numbers: BackboneTable) -> Shown:
    """Parameters of each architecture with its stock head, against the numbers on the slides."""
    counts = {name: parameters_with_auxiliaries(name) for name in numbers.names}
    plain = [counts[name][0] for name in numbers.names]
    published = {n: v for n, v in SLIDE.items() if n in counts}
    away = {n: abs(counts[n][0] / v - 1) for n, v in published.items()}
    rest = [n for n in ("googlenet", "resnet18", "resnet50") if n in counts]
    large = min([counts[n][0] for n in ("alexnet", "vgg16") if n in counts], default=0)
    findings = {
        "counts": ClaimResult(
            bool(away) and max(away.values()) < NEAR,
            _listed(
                [
                    Both(
                        fr=f"{n} {grouped(counts[n][0])} (diapositive : {grouped(v)} ; écart : "
                        f"{away[n]:.1%})",
                        en=f"{n} {counts[n][0]:,} (slide: {v:,.0f}; {away[n]:.1%} off)",
                    )
                    for n, v in published.items()
                ]
            ),
        ),
        "fewer": ClaimResult(
            bool(rest) and max(counts[n][0] for n in rest) < large,
            _listed(
                [
                    *(
                        Both(fr=f"{n} {grouped(counts[n][0])}", en=f"{n} {counts[n][0]:,}")
                        for n in rest
                    ),
                    Both(
                        fr=f"AlexNet et VGG à partir de {grouped(large)}",
                        en=f"AlexNet and VGG from {large:,}",
                    ),
                ]
            ),
        ),
    }
    titles: tuple[Label, ...] = tuple(
        get_backbone(name).title.split(" (")[0] for name in numbers.names
    )
    panel = Bars(
        Both(
            fr="paramètres, tête d'origine comprise (échelle logarithmique)",
            en="parameters with the stock head (logarithmic scale)",
        ),
        titles,
        {"": plain},
        label=PARAMETERS,
        words={"": [_millions(count) for count in plain]},
        log=True,
    )
    return Shown(findings, {n: {"own": a, "all": b} for n, (a, b) in counts.items()}, (panel,))


def _listed(texts: Sequence[Both]) -> Both:
    """Several texts in one, separated by semicolons."""
    if not texts:
        return Both(
            fr="aucun de ces réseaux n'est demandé", en="none of these networks is asked for"
        )
    return Both(fr=" ; ".join(t.fr for t in texts), en="; ".join(t.en for t in texts))


def _millions(count: float) -> str:
    """A number of parameters, short.

    >>> _millions(61_706), _millions(138_357_544)
    ('62 k', '138 M')
    """
    return f"{count / 1e6:.0f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def sparse_lenet_parameters() -> int:
    """Parameters of LeNet-5 as published, with its sparse C3 and trainable pools.

    >>> sparse_lenet_parameters()
    60000
    """
    c1, s2, s4 = 6 * (25 + 1), 6 * 2, 16 * 2
    c3 = sum(25 * maps + 1 for maps in SPARSE_C3)
    c5, f6 = 120 * (16 * 25 + 1), 84 * (120 + 1)
    return c1 + s2 + c3 + s4 + c5 + f6


def lenet5(numbers: Pictured) -> Shown:
    """LeNet-5 on a grey tile: its stages, the order of its layers, and five statements."""
    model, _ = build_backbone("lenet5", ["grey"], seed=numbers.seed)
    kinds = [type(layer).__name__ for layer in _layers(model.stages["c1"])]
    dense, sparse = get_backbone("lenet5").parameters, sparse_lenet_parameters()
    findings = {
        "parameters": _lenet_parameters(dense, sparse),
        "grey": _grey_alone(len(model.bands)),
        "after_pooling": _activation_last(kinds),
        "linear": _linear_functions(),
        "same_filters": _same_filters(model),
    }
    counts = [sum(p.numel() for p in s.parameters()) for s in model.stages.values()]
    by_stage = Both(fr="paramètres par étage", en="parameters by stage")
    panels = (
        _lenet_maps(model, numbers),
        _bends(),
        _parameter_bars(by_stage, tuple(model.stages), counts),
    )
    return Shown(findings, {"dense": dense, "sparse": sparse, "layers": kinds}, panels)


def _lenet_parameters(dense: int, sparse: int) -> ClaimResult:
    """Whether LeNet-5 has the slide's 60,000 parameters."""
    return ClaimResult(
        abs(dense / 60e3 - 1) < NEAR,
        Both(
            fr=f"{grouped(dense)} dans la forme dense d'aujourd'hui, {grouped(sparse)} dans "
            "celle publiée, où C3 ne lit pas toutes les cartes",
            en=f"{dense:,} in today's dense form, {sparse:,} as published, where C3 does not "
            "read every map",
        ),
    )


def _grey_alone(bands: int) -> ClaimResult:
    """Whether the network reads one band."""
    return ClaimResult(
        bands == 1,
        Both(
            fr=f"le réseau lit {bands} bande, en niveaux de gris",
            en=f"the network reads {bands} band, in grey levels",
        ),
    )


def _activation_last(kinds: Sequence[str]) -> ClaimResult:
    """Whether the activation follows the pooling."""
    return ClaimResult(
        kinds.index("Tanh") > kinds.index("AvgPool2d"),
        Both(
            fr=f"ordre des couches de c1 : {', '.join(kinds)}",
            en=f"order of the layers of c1: {', '.join(kinds)}",
        ),
    )


def _linear_functions() -> ClaimResult:
    """Whether tanh and sigmoid of a sum are the sums of theirs."""
    a, b = torch.tensor(0.7), torch.tensor(1.1)
    tanh, sigmoid = (float((f(a + b) - f(a) - f(b)).abs()) for f in (torch.tanh, torch.sigmoid))
    return ClaimResult(
        tanh < 1e-6 and sigmoid < 1e-6,
        Both(
            fr=f"tanh(a+b) - tanh(a) - tanh(b) vaut {tanh:.2f} pour a = 0.7 et b = 1.1 ; pour "
            f"la sigmoïde {sigmoid:.2f} ; ce serait 0 pour une fonction linéaire",
            en=f"tanh(a+b) - tanh(a) - tanh(b) is {tanh:.2f} at a = 0.7 and b = 1.1; for the "
            f"sigmoid {sigmoid:.2f}; it would be 0 for a linear function",
        ),
    )


def _same_filters(model: Backbone) -> ClaimResult:
    """Whether C3 has one filter for all maps that it reads."""
    convolution = next(m for m in model.stages["c3"].modules() if isinstance(m, nn.Conv2d))
    weight = convolution.weight.detach()
    apart = float((weight[:, 1:] - weight[:, :-1]).abs().max())
    shared = 16 * (25 + 1)
    return ClaimResult(
        apart == 0,
        Both(
            fr=f"les filtres de C3 diffèrent d'une carte à l'autre de {apart:.2f} au plus ; "
            f"avec le même filtre pour chaque carte, C3 aurait {shared} paramètres ; il en a "
            f"{grouped(2416)} (dense) ou {grouped(1516)} (publié)",
            en=f"C3's kernels differ from map to map by up to {apart:.2f}; with the same "
            f"kernel for every map C3 would have {shared} parameters; it has 2,416 (dense) "
            "or 1,516 (published)",
        ),
    )


def _lenet_maps(model: Backbone, numbers: Pictured) -> Pictures:
    """A grey tile and some of the maps that the two convolutions make of it."""
    grey = standard_tiles(numbers).mean(dim=1, keepdim=True)[:1, :, :32, :32]
    with torch.inference_mode():
        outputs = model(grey)
    maps = [grey[0, 0], *outputs["c1"][0, :3], *outputs["c3"][0, :4]]
    tile = Both(fr="tuile 32×32", en="tile 32×32")
    return Pictures(
        Both(
            fr="une tuile, et ce qu'en font c1 et c3",
            en="a tile, and what c1 and c3 make of it",
        ),
        tuple(np.asarray(m) for m in maps),
        (tile, *["c1 14×14"] * 3, *["c3 5×5"] * 4),
        columns=4,
    )


def _layers(stage: nn.Module) -> list[nn.Module]:
    """The layers of a stage without children, in order."""
    return [m for m in stage.modules() if not list(m.children())]


def _bends() -> Lines:
    """Sigmoid and tanh with the line that they are not."""
    x = np.linspace(-4, 4, 81)
    series = (
        Series("tanh", x, np.tanh(x)),
        Series(Both(fr="sigmoïde", en="sigmoid"), x, 1 / (1 + np.exp(-x))),
        Series(Both(fr="une fonction linéaire", en="a linear function"), x, x / 4, dashed=True),
    )
    title = Both(fr="tanh et sigmoïde ne sont pas linéaires", en="tanh and sigmoid are not linear")
    return Lines(title, "x", "f(x)", series)


def _parameter_bars(title: Both, names: Sequence[Label], counts: Sequence[int]) -> Bars:
    """A panel of numbers of parameters."""
    words = [Both(fr=grouped(count), en=f"{count:,}") for count in counts]
    return Bars(title, tuple(names), {"": counts}, words={"": words}, label=PARAMETERS)


def alexnet(_: Levels) -> Shown:
    """AlexNet compared with LeNet-5: the same plan, much larger, with ReLU."""
    with torch.device("meta"):
        both = {name: get_backbone(name).build() for name in ("lenet5", "alexnet")}
    kinds = {
        n: [type(m).__name__ for s in stages.values() for m in _layers(s)]
        for n, stages in both.items()
    }
    first = next(m for m in both["alexnet"]["conv1"].modules() if isinstance(m, nn.Conv2d))
    small, large = (get_backbone(n).parameters for n in ("lenet5", "alexnet"))
    activations = {k for k in kinds["alexnet"] if k in ("ReLU", "Tanh", "Sigmoid")}
    plan = [k for k in kinds["alexnet"] if k in ("Conv2d", "MaxPool2d", "ReLU")]
    findings = {
        "rgb": ClaimResult(
            first.in_channels == 3,
            Both(
                fr=f"sa première convolution lit {first.in_channels} bandes",
                en=f"its first convolution reads {first.in_channels} bands",
            ),
        ),
        "larger": ClaimResult(
            large > 100 * small,
            Both(
                fr=f"{grouped(large)} paramètres : {large / small:.0f} fois les {grouped(small)} "
                "de LeNet-5",
                en=f"{large:,} parameters: {large / small:,.0f} times LeNet-5's {small:,}",
            ),
        ),
        "relu": ClaimResult(
            activations == {"ReLU"},
            Both(
                fr=f"fonctions d'activation : {', '.join(sorted(activations))}",
                en=f"activations: {', '.join(sorted(activations))}",
            ),
        ),
        "similar": ClaimResult(
            plan[0] == "Conv2d" and plan[-1] == "MaxPool2d",
            Both(
                fr=f"C : convolution, P : pooling, a : activation ; AlexNet {_letters(plan)} ; "
                f"LeNet-5 {_letters(kinds['lenet5'])} ; puis un MLP",
                en=f"C: convolution, P: pooling, a: activation; AlexNet {_letters(plan)}; "
                f"LeNet-5 {_letters(kinds['lenet5'])}; then a perceptron",
            ),
        ),
    }
    with torch.device("meta"):
        counts = {s: sum(p.numel() for p in m.parameters()) for s, m in both["alexnet"].items()}
    head = large - sum(counts.values())
    panel = _parameter_bars(
        Both(
            fr=f"AlexNet : {head / large:.0%} des paramètres sont dans le MLP final",
            en=f"AlexNet: {head / large:.0%} of the parameters lie in the final perceptron",
        ),
        (*counts, Both(fr="MLP final", en="final perceptron")),
        [*counts.values(), head],
    )
    return Shown(findings, {"lenet5": small, "alexnet": large, "head": head}, (panel,))


def _letters(kinds: Sequence[str]) -> str:
    """Layers as letters.

    >>> _letters(["Conv2d", "ReLU", "MaxPool2d"])
    'CaP'
    """
    letters = {"Conv2d": "C", "MaxPool2d": "P", "AvgPool2d": "P", "ReLU": "a", "Tanh": "a"}
    return "".join(letters.get(kind, "") for kind in kinds)


def vgg16(_: Levels) -> Shown:
    """VGG-16 layer by layer: the same kernel and the same pool everywhere, and a huge fc6."""
    spec = get_backbone("vgg16")
    with torch.device("meta"):
        stages = spec.build()
    layers = [m for s in stages.values() for m in _layers(s)]
    convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
    pools = [m for m in layers if isinstance(m, nn.MaxPool2d)]
    kernels = {m.kernel_size for m in convolutions}
    sides = {(m.kernel_size, m.stride) for m in pools}
    squares = ", ".join(f"{high}×{wide}" for high, wide in kernels)
    fc6 = 512 * 7 * 7 * 4096 + 4096
    pooled = 512 * 1000 + 1000
    body = sum(p.numel() for s in stages.values() for p in s.parameters())
    other, complete = parameters_with_auxiliaries("inception_v3")
    findings = {
        "kernels": ClaimResult(
            kernels == {(3, 3)} and len(convolutions) == 13,
            Both(
                fr=f"{len(convolutions)} convolutions, toutes de {squares}",
                en=f"{len(convolutions)} convolutions, all of {squares}",
            ),
        ),
        "pools": ClaimResult(
            sides == {(2, 2)} and len(pools) == 5,
            Both(
                fr=f"{len(pools)} max-poolings de 2×2 px, avec un pas de 2",
                en=f"{len(pools)} max-poolings of 2×2 px, with a stride of 2",
            ),
        ),
        "parameters": ClaimResult(
            abs(spec.parameters / 138e6 - 1) < NEAR,
            Both(
                fr=f"{grouped(spec.parameters)}, dont {grouped(fc6)} dans la seule couche fc6 ; "
                f"avec une tête sur la moyenne des cartes {grouped(body + pooled)}",
                en=f"{spec.parameters:,}, of them {fc6:,} in fc6 alone; with a head on the mean of "
                f"the maps {body + pooled:,}",
            ),
        ),
        "inception": ClaimResult(
            complete == spec.parameters,
            Both(
                fr=f"InceptionV3, que le titre annonce, a {grouped(other)} paramètres "
                f"({grouped(complete)} avec sa tête auxiliaire) ; VGG16, que le code charge, en a "
                f"{grouped(spec.parameters)} : ce sont deux réseaux",
                en=f"InceptionV3, which the heading announces, has {other:,} parameters "
                f"({complete:,} with its auxiliary head); VGG16, which the code loads, has "
                f"{spec.parameters:,}: they are two networks",
            ),
        ),
    }
    counts = {n: sum(p.numel() for p in s.parameters()) for n, s in stages.items()}
    rest = spec.parameters - body - fc6
    panel = _parameter_bars(
        Both(
            fr=f"VGG-16 : {fc6 / spec.parameters:.0%} des paramètres sont dans fc6",
            en=f"VGG-16: {fc6 / spec.parameters:.0%} of the parameters lie in fc6",
        ),
        (*counts, "fc6", Both(fr="fc7 et fc8", en="fc7 and fc8")),
        [*counts.values(), fc6, rest],
    )
    values = {"parameters": spec.parameters, "fc6": fc6, "body": body}
    return Shown(findings, values, (panel,))


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "parameter_table": parameter_table,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "vgg16": vgg16,
}
