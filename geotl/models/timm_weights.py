"""Weights that timm publishes: by name, through timm's own loader and its cache."""

from __future__ import annotations

import pickle
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from geotl.errors import ModelError, WeightsError
from geotl.io.files import sha256_of
from geotl.language import msg
from geotl.models.backbone import BackboneSpec, skeleton
from geotl.models.normalisation import of_pictures
from geotl.models.timm_networks import PREFIX, is_timm, library, registered_name
from geotl.models.weights import WeightFile

PRETRAINED = "pretrained"
_POSITIONS = "pos_embed"
_PATIENCE_S = 5.0  # for an answer of the hub
_LOCAL = "or give model.weights a local .pth or .safetensors file"
# Files that timm requests from the hub, in its order, where a network's entry names none.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def is_timm_weights(weights: str) -> bool:
    """Whether `model.weights` means weights of timm's.

    >>> is_timm_weights("pretrained"), is_timm_weights("timm:resnet18.a1_in1k")
    (True, True)
    """
    return weights == PRETRAINED or weights.startswith(PREFIX)


def timm_file(spec: BackboneSpec, weights: str) -> WeightFile:
    """Weights of one of timm's networks, for red, green and blue in 0..1.

    Args:
        spec: entry of the network.
        weights: `pretrained` for those of the network's own name, or `timm:NAME.TAG`.

    Raises:
        WeightsError: timm has none, they are another network's, or they are not in the cache and
            cannot be fetched.
    """
    asked = spec.name if weights == PRETRAINED else weights
    try:
        given = registered_name(asked)
    except ModelError as error:
        raise WeightsError(f"weights {weights}: {error}") from error
    config = library().get_pretrained_cfg(given)
    if not _same_network(given, spec):
        raise WeightsError(
            f"weights {weights}: another network's than {spec.name}; set model.backbone to "
            f"{PREFIX}{given}, or take one of {', '.join(spec.weights) or 'no weights: none exist'}"
        )
    if not (config.hf_hub_id or config.url):
        raise WeightsError(
            f"weights {weights}: timm has none for {given}; take one of "
            f"{', '.join(spec.weights) or 'another network'} {_LOCAL}"
        )
    tensors = _loaded(given, config)
    path = cached_path(given, config)
    return WeightFile(
        f"{PREFIX}{given}",
        sha256_of(path),
        tensors,
        normalisation=of_pictures(config.mean, config.std),
        notes=_credit(config),
    )


def _same_network(given: str, spec: BackboneSpec) -> bool:
    return given.partition(".")[0] == spec.name.removeprefix(PREFIX).partition(".")[0]


def _loaded(given: str, config: Any) -> dict[str, torch.Tensor]:
    """The tensors of a pretrained network, in the order and form that timm brings them into.

    Raises:
        WeightsError: the file cannot be had, or is not what timm expects.
    """
    from huggingface_hub import errors as hub

    place = config.hf_hub_id or config.url
    cached = _in_hub_cache(config)
    if config.hf_hub_id and cached is None:
        _check_reachable(given, place)
    # Read from the cache, a file need not be compared with the hub's, which may be out of reach.
    from_cache = {} if cached is None else {"pretrained_cfg_overlay": {"file": str(cached)}}
    unreachable = (hub.HfHubHTTPError, hub.EntryNotFoundError, OSError)
    damaged = (SafetensorError, pickle.UnpicklingError, RuntimeError, KeyError, EOFError)
    try:
        with torch.random.fork_rng(devices=[]):
            network = library().create_model(given, pretrained=True, **from_cache)
    except unreachable as error:
        raise WeightsError(
            f"weights {PREFIX}{given}: not in the cache and not to be had from {place} "
            f"({type(error).__name__}); run once where the network can be reached, {_LOCAL}"
        ) from error
    except damaged as error:
        raise WeightsError(
            f"weights {PREFIX}{given}: the file from {place} does not fit or is damaged "
            f"({type(error).__name__}); delete it from the cache and fetch it again, {_LOCAL}"
        ) from error
    return {name: value.detach() for name, value in network.state_dict().items()}


def _check_reachable(given: str, place: str) -> None:
    """Ask the hub once, before its library asks it again and again for a minute, in many lines.

    Raises:
        WeightsError: it does not answer within `_PATIENCE_S`.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:  # its library says so at once
        return
    asked = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE_S):
            return
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # the library may know other certificates
            return
        raise WeightsError(
            f"weights {PREFIX}{given}: not in the cache, and {constants.ENDPOINT} cannot be "
            f"reached ({reason}); fetch {place} once where it can (the cache is "
            f"{constants.HF_HUB_CACHE}), {_LOCAL}"
        ) from error


def _in_hub_cache(config: Any) -> Path | None:
    """The file of an entry in the hub's cache, None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    if not config.hf_hub_id:
        return None
    hub, _, revision = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    found = (try_to_load_from_cache(hub, name, revision=revision or None) for name in names)
    there = (Path(path) for path in found if isinstance(path, str) and Path(path).is_file())
    return next(there, None)


def cached_path(given: str, config: Any) -> Path:
    """Where the file that timm loaded lies.

    Raises:
        WeightsError: it is not where timm's loaders keep their files.
    """
    path = _in_hub_cache(config)
    if path is None and not config.hf_hub_id:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name
    if path is not None and path.is_file():
        return path
    raise WeightsError(
        f"weights {PREFIX}{given}: loaded, but their file is not in the cache, so its checksum "
        f"cannot be kept; unset TIMM_USE_OLD_CACHE, {_LOCAL}"
    )


def renamed(spec: BackboneSpec, file: WeightFile) -> WeightFile:
    """A file of a network's first publisher under timm's names, as timm brings them into its own.

    A file that timm cannot convert stays as it is, and later does not fit.
    """
    expected = {tensor for _, tensor, _, _ in skeleton(spec)}
    if not is_timm(spec.name) or all(
        n in expected or n.startswith(spec.head) for n in file.tensors
    ):
        return file
    with torch.device("meta"):
        network = library().create_model(registered_name(spec.name), pretrained=False)
    rename = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    try:
        tensors = dict(file.tensors) if rename is None else rename(dict(file.tensors), network)
    except (KeyError, RuntimeError, ValueError, IndexError, TypeError, AttributeError):
        return file
    if any(not isinstance(value, torch.Tensor) or value.is_meta for value in tensors.values()):
        return file
    if tensors.keys() == file.tensors.keys():
        return file
    note = msg("tensors renamed from their publisher's form by timm")
    return replace(file, tensors=tensors, notes=(*file.notes, note))


def with_own_positions(spec: BackboneSpec, file: WeightFile) -> WeightFile:
    """A file with position embeddings for the network's grid of patches.

    Those of another grid, such as of a training at another size, are resampled as timm does.
    """
    embeddings = file.tensors.get(_POSITIONS)
    wanted = {tensor: shape for _, tensor, _, shape in skeleton(spec)}.get(_POSITIONS)
    if embeddings is None or wanted is None or tuple(embeddings.shape) == wanted:
        return file
    sides = _grids(spec, embeddings.shape, wanted)
    if sides is None:
        return file
    here, there, prefix = sides
    resampled = library().layers.resample_abs_pos_embed(
        embeddings.float(), (here, here), (there, there), num_prefix_tokens=prefix
    )
    note = msg(
        "position embeddings: {there}x{there} patches, resampled to {here}x{here}",
        there=there,
        here=here,
    )
    tensors = {**file.tensors, _POSITIONS: resampled.to(embeddings.dtype)}
    return replace(file, tensors=tensors, notes=(*file.notes, note))


def _grids(
    spec: BackboneSpec, file_shape: Sequence[int], wanted: Sequence[int]
) -> tuple[int, int, int] | None:
    """Side of the network's grid, of the file's, and tokens before both; None if they differ."""
    if spec.tokens is None or len(file_shape) != len(wanted) or file_shape[-1] != wanted[-1]:
        return None
    for prefix in sorted({0, 1, spec.tokens.prefix}):
        here, there = (isqrt(max(0, shape[1] - prefix)) for shape in (wanted, file_shape))
        if (here**2, there**2) == (wanted[1] - prefix, file_shape[1] - prefix):
            return here, there, prefix
    return None


def _credit(config: Any) -> tuple[str, ...]:
    """A note on the origin and the licence of weights, from timm."""
    papers = config.paper_ids or ()
    origins = {
        "source": config.hf_hub_id or config.url,
        "from": config.origin_url,
        "license": config.license,
        "publication": papers if isinstance(papers, str) else ", ".join(papers),
    }
    words = [f"{key} {value}" for key, value in origins.items() if value]
    return (msg("weights: {names}", names=", ".join(words)),)
