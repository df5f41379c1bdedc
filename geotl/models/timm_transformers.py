"""Transformers of timm as stages: patches to tokens, the blocks one by one, what the head pools.

Every stage keeps timm's own modules in a part called `net` with timm's tensor names, and
calls them in the order of timm's `forward_features` and `forward_head`. Tokens are [N, T, D]: class
and register tokens first, then those of the patches, row by row.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import isqrt
from typing import Any

from torch import Tensor, nn

from geotl.errors import ModelError
from geotl.models.backbone import Tokens

TRANSFORMERS = ("VisionTransformer", "Eva")
_EMBEDDING = ("patch_embed", "pos_drop", "norm_pre", "rope", "cls_token", "reg_token", "pos_embed")
_POOLING = ("norm", "attn_pool", "fc_norm")
_QUARTERS = 4


class PatchEmbedding(nn.Module):
    """An image [N, C, S, S] to tokens [N, T, D] with their positions."""

    def __init__(self, network: Any) -> None:
        """Take these parts of a network over."""
        super().__init__()
        self.net: Any = _part(network, _EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        """Cut into patches; positions of another size of image are resampled, as timm does."""
        placed = self.net._pos_embed(self.net.patch_embed(x))
        tokens: Tensor = self.net.norm_pre(placed[0] if isinstance(placed, tuple) else placed)
        return tokens


class TokenBlock(nn.Module):
    """One block, tokens to tokens; rotary positions, if it has any, of a square of patches."""

    def __init__(self, block: nn.Module, rope: Any, prefix: int) -> None:
        """Take a block over; `prefix` tokens have no place in the square."""
        super().__init__()
        self.net, self.rope, self.prefix = block, rope, prefix

    def forward(self, x: Tensor) -> Tensor:
        """Attend and transform [N, T, D]."""
        placed = {}
        if self.rope is not None:
            side = isqrt(x.shape[1] - self.prefix)
            placed["rope"] = self.rope.get_embed(shape=[side, side])
        tokens: Tensor = self.net(x, **placed)
        return tokens


class TokenPooling(nn.Module):
    """Output of the stock head before its classifier, as a map [N, D, 1, 1]."""

    def __init__(self, network: Any) -> None:
        """Take these parts of a network over."""
        super().__init__()
        self.net: Any = _part(network, _POOLING)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and pool [N, T, D]."""
        pooled: Tensor = self.net.fc_norm(self.net.pool(self.net.norm(x)))
        return pooled[:, :, None, None]


def _part(network: nn.Module, names: Sequence[str]) -> nn.Module:
    """The network with only these parts; its numbers are shared, not copied."""
    part = copy.copy(network)
    for kind in ("_modules", "_parameters", "_buffers"):
        submodule = getattr(network, kind)
        setattr(part, kind, {name: submodule[name] for name in submodule if name in names})
    return part


def token_stages(network: Any) -> dict[str, nn.Module]:
    """The stages of a transformer of timm, in order.

    Raises:
        ModelError: its rotary positions have weights of their own in every block, or it takes only
            one size of image.
    """
    if not network.dynamic_img_size:
        raise ModelError(
            "a transformer of timm that takes only one size of image; allowed: others, such as "
            "timm:vit_small_patch14_dinov2"
        )
    rope, prefix = getattr(network, "rope", None), network.num_prefix_tokens
    if rope is not None and list(rope.parameters()):
        raise ModelError(
            "a transformer of timm with trained rotary positions (rope mixed) is not "
            "supported; allowed: others, such as timm:vit_small_patch16_dinov3"
        )
    blocks = {
        f"block{number}": TokenBlock(block, rope, prefix)
        for number, block in enumerate(network.blocks, 1)
    }
    return {"embed": PatchEmbedding(network), **blocks, "top": TokenPooling(network)}


def tensor_prefixes(network: Any) -> tuple[str, ...]:
    """Prefix of each stage's tensors in timm's files."""
    return ("", *(f"blocks.{number}." for number in range(len(network.blocks))), "")


def tokens_of(network: Any) -> Tokens:
    """Pooling of the features of blocks: the class token if timm's head takes it, else a mean."""
    by_class = network.global_pool == "token" and getattr(network, "attn_pool", None) is None
    return Tokens(network.num_prefix_tokens, "class" if by_class else "mean")


def stages_read(blocks: int) -> tuple[str, ...]:
    """The stages with features that are read by default: at quarters of the depth.

    >>> stages_read(12)
    ('block3', 'block6', 'block9', 'top')
    """
    inner = (f"block{blocks * quarter // _QUARTERS}" for quarter in range(1, _QUARTERS))
    return (*dict.fromkeys(inner), "top")


def patch_px(network: Any) -> int:
    """Side of a patch in pixels.

    Raises:
        ModelError: patches that are not square.
    """
    high, wide = network.patch_embed.patch_size
    if high != wide:
        raise ModelError(f"patches of {high}x{wide} px; allowed: transformers with square patches")
    return int(high)
