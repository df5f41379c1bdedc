"""Small networks of timm, and weight files of random ones, which stand for pretrained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

SMALLEST = {
    "ConvNeXt": "timm:test_convnext",
    "EfficientNet": "timm:test_efficientnet",
    "MobileNetV3": "timm:mobilenetv4_conv_small_035",
    "RegNet": "timm:regnetx_002",
    "ResNet": "timm:test_resnet",
}

# a class token and 14 px patches as DINOv2's, registers with a mean, attention pooling as SigLIP's,
# rotary positions as DINOv3's
TRANSFORMERS = {
    "class token": "timm:test_vit",
    "registers, mean": "timm:test_vit2",
    "attention pooling": "timm:test_vit3",
    "rotary": "timm:vit_tiny_patch16_dinov3_qkvb",
}


def drawn(name: str, seed: int = 5, **options: Any) -> Any:
    """timm's own network at random, with its head, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = timm.create_model(name.removeprefix("timm:"), **options).eval()
        for module in made.modules():  # statistics as training leaves them, not 0 and 1
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return made


def write_file(path: Path, name: str, seed: int = 5, **options: Any) -> Any:
    """Write such a network's tensors, as its publisher would, and return the network."""
    made = drawn(name, seed, **options)
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in made.state_dict().items()}, path)
    else:
        torch.save(made.state_dict(), path)
    return made
