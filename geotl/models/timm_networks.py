"""timm's networks as backbones: `timm:NAME` cut into stages, under timm's own tensor names.

timm is an extra and takes seconds to import, so it is imported only where a name begins with
`timm:`. A network is built from its name; nothing is fetched here.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from geotl.errors import ModelError
from geotl.models.backbone import BackboneSpec, steady
from geotl.models.backbone_names import TIMM_PREFIX
from geotl.models.timm_transformers import (
    TRANSFORMERS,
    patch_px,
    stages_read,
    tensor_prefixes,
    token_stages,
    tokens_of,
)

PREFIX = TIMM_PREFIX
INSTALL = "pip install 'geotl[timm]'"
_PROBE_PX = 128  # side at which widths and strides are read off
_NEAR = 3  # names suggested for one that is unknown
_ANY_SIZE = ("vision_transformer", "eva", "deit")  # timm's modules with this option:
_AT_ANY_SIZE = {"dynamic_img_size": True}


@dataclass(frozen=True)
class Layout:
    """In which order the `forward_features` of one of timm's classes calls its parts.

    Attributes:
        stem: parts before the body, by name.
        body: a part with children in sequence, or several parts.
        tail: parts after the body; without tensors they are left out.
        head: prefix of the stock head's tensors.
    """

    stem: tuple[str, ...]
    body: str | tuple[str, ...]
    tail: tuple[str, ...]
    head: tuple[str, ...]


LAYOUTS: Mapping[str, Layout] = {
    "ConvNeXt": Layout(("stem",), "stages", ("norm_pre",), ("head.",)),
    "EfficientNet": Layout(("conv_stem", "bn1"), "blocks", ("conv_head", "bn2"), ("classifier.",)),
    "MobileNetV3": Layout(
        ("conv_stem", "bn1"), "blocks", (), ("conv_head.", "norm_head.", "classifier.")
    ),
    "RegNet": Layout(("stem",), ("s1", "s2", "s3", "s4"), ("final_conv",), ("head.",)),
    "ResNet": Layout(
        ("conv1", "bn1", "act1", "maxpool"),
        ("layer1", "layer2", "layer3", "layer4"),
        (),
        ("fc.",),
    ),
}


@dataclass(frozen=True)
class Stage:
    """A stage before it is built: its name, what its tensors' names begin with, its parts."""

    name: str
    prefix: str
    parts: Mapping[str, nn.Module]


def library() -> Any:
    """Import timm.

    Raises:
        ModelError: it cannot be imported.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"networks named timm:NAME need timm, which cannot be imported ({error}); {INSTALL}"
        ) from error
    return timm


def is_timm(name: str) -> bool:
    """Whether a backbone's name is one of timm's networks.

    >>> is_timm("timm:convnext_atto.d2_in1k"), is_timm("resnet18")
    (True, False)
    """
    return name.startswith(PREFIX)


def check_installed(name: str) -> None:
    """Make sure that the library of a backbone can be imported.

    Raises:
        ModelError: it is one of timm's networks, and timm is not there.
    """
    if is_timm(name):
        library()


def registered_name(name: str) -> str:
    """Name in timm of `timm:NAME` or `timm:NAME.TAG`, if timm has both.

    Names of other places (`hf-hub:`, `local-dir:`), which timm would follow, are none of these.

    Raises:
        ModelError: timm is not installed, or knows no such network or no such weights of it.
    """
    timm = library()
    given = name.removeprefix(PREFIX)
    network, _, tag = given.partition(".")
    if network not in timm.list_models():
        raise ModelError(f"backbone {name}: timm has no such network; {_near(given, None)}")
    if tag and given not in timm.list_models(f"{network}.*", include_tags=True):
        raise ModelError(f"backbone {name}: timm has no such weights; {_near(given, network)}")
    return given


def _near(given: str, network: str | None) -> str:
    """The names nearest to one that timm does not know."""
    timm = library()
    names = timm.list_models(f"{network}.*", include_tags=True) if network else timm.list_models()
    near = difflib.get_close_matches(given if network else given.partition(".")[0], names, _NEAR)
    if not near and network:
        near = names
    if near:
        return f"did you mean {' or '.join(PREFIX + one for one in near)}?"
    return "see timm.list_models() for those it has"


@lru_cache(maxsize=16)
def timm_spec(name: str) -> BackboneSpec:
    """The entry of `timm:NAME`, measured on the network without its numbers.

    Raises:
        ModelError: timm or the network is not there, or it is of a family that is not taken apart.
    """
    given = registered_name(name)
    with torch.device("meta"):
        network = _network(given)
    config, kind = network.pretrained_cfg, type(network).__name__
    facts = _token_facts(network) if kind in TRANSFORMERS else _map_facts(network, _layout(network))
    return BackboneSpec(
        name,
        "timm",
        f"{kind}, {given} of timm",
        parameters=sum(p.numel() for p in network.parameters()),
        weights=_published(given),
        build=partial(_built, given),
        normalisation=(tuple(config["mean"]), tuple(config["std"])),
        draws=True,
        **facts,
    )


def _network(given: str) -> Any:
    """A network of timm with random weights, by a name from `registered_name`."""
    timm = library()
    sized = timm.models.is_model_in_modules(given, _ANY_SIZE)
    return timm.create_model(given, pretrained=False, **_AT_ANY_SIZE if sized else {}).eval()


def _map_facts(network: Any, layout: Layout) -> dict[str, Any]:
    """Fields of the entry of a network with stages that give maps."""
    stages = _stages(network, layout)
    parts = {stage.name: nn.Sequential(*stage.parts.values()) for stage in stages}
    widths, strides = _measured(parts)
    return {
        "stages": tuple(parts),
        "channels": widths,
        "strides": strides,
        "least_px": strides,
        "prefixes": tuple(stage.prefix for stage in stages),
        "head": layout.head,
    }


def _token_facts(network: Any) -> dict[str, Any]:
    """Fields of the entry of a transformer, with stages that give tokens."""
    stages, patch = token_stages(network), patch_px(network)
    return {
        "stages": tuple(stages),
        "channels": (network.embed_dim,) * len(stages),
        "strides": (patch,) * len(stages),
        "least_px": (patch,) * len(stages),
        "prefixes": tensor_prefixes(network),
        "head": ("head.",),
        "read": stages_read(len(network.blocks)),
        "tokens": tokens_of(network),
        "multiple_px": patch,
    }


def _published(given: str) -> tuple[str, ...]:
    """Names of a network's weights, as `model.weights` takes them."""
    network = given.partition(".")[0]
    return tuple(PREFIX + one for one in library().list_pretrained(f"{network}.*"))


def _layout(network: nn.Module) -> Layout:
    kind = type(network).__name__
    if kind not in LAYOUTS:
        raise ModelError(
            f"a {kind} of timm, a class with parts that geotl does not know; allowed: networks of "
            "timm's "
            f"classes {', '.join([*LAYOUTS, *TRANSFORMERS])}, such as timm:convnext_tiny"
        )
    return LAYOUTS[kind]


def _stages(network: Any, layout: Layout) -> list[Stage]:
    """The stages of a network, each up to where timm's own intermediate features are taken."""
    prefix, units = _units(network, layout.body)
    ends = {str(entry["module"]) for entry in network.feature_info}
    groups: list[list[str]] = [[]]
    for unit in units:
        groups[-1].append(unit)
        if prefix + unit in ends:
            groups.append([])
    trailing = groups.pop()
    groups[-1] += trailing
    body = [
        Stage(f"stage{number}", prefix, {unit: units[unit] for unit in group})
        for number, group in enumerate(groups, 1)
    ]
    tail = {part: getattr(network, part) for part in layout.tail}
    top = [Stage("top", "", tail)] if any(m.state_dict() for m in tail.values()) else []
    stem = {part: getattr(network, part) for part in layout.stem}
    return [Stage("stem", "", stem), *body, *top]


def _units(network: Any, body: str | tuple[str, ...]) -> tuple[str, dict[str, nn.Module]]:
    """Prefix of the body's tensors, and its parts by name, in order."""
    if isinstance(body, str):
        return f"{body}.", dict(getattr(network, body).named_children())
    return "", {part: getattr(network, part) for part in body}


def _built(given: str) -> dict[str, nn.Module]:
    """The stages of a new network, batch normalisation in its steady form."""
    network = steady(_network(given))
    if type(network).__name__ in TRANSFORMERS:
        return token_stages(network)
    stages = _stages(network, _layout(network))
    return {stage.name: nn.Sequential(OrderedDict(stage.parts)) for stage in stages}


def _measured(stages: Mapping[str, nn.Module]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels of each stage's output, and its stride in image pixels."""
    x = torch.empty(1, 3, _PROBE_PX, _PROBE_PX, device="meta")
    widths, strides = [], []
    with torch.no_grad():
        for stage in stages.values():
            x = stage(x)
            widths.append(x.shape[1])
            strides.append(_PROBE_PX // x.shape[-1])
    return tuple(widths), tuple(strides)
