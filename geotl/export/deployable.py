"""A trained network as it is deployed: raw pixel values in, calibrated probabilities out.

Normalisation, adaptation to the bands, resizing, averaging over views and the temperature are all
inside, so that nothing is left for whoever runs it to forget, or to do twice.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from geotl.models.classifier import TileClassifier, turn_view, view_numbers
from geotl.models.model_file import ModelFile


class Deployed(nn.Module):
    """Raw pixels [N,C,S,S] float32 to probabilities [N,K] and calibrated logits [N,K].

    Both are plain tensors, so that a file made of this opens without geotl. The probabilities are
    the softmax of the logits, which are means over the views, divided by the temperature already.

    Views are stacked on the batch axis and go through the network at once, so that a graph made of
    it does not grow with their number. NaN and the sensor's nodata are invalid and take the mean
    of the training pixels.
    """

    def __init__(self, network: TileClassifier, views: int) -> None:
        """Deploy a network, averaging over 1, 2, 4 or 8 views."""
        super().__init__()
        self.network, self.views = network, view_numbers(views)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Name a batch."""
        calibrated = self.of_standard(self.network.normalise(image))
        return torch.softmax(calibrated, dim=1), calibrated

    def of_standard(self, standard: Tensor) -> Tensor:
        """Calibrated logits [N,K] of pixels that are standardised already."""
        stacked = torch.cat([turn_view(standard, view) for view in self.views])
        logits = self.network.classify(self.network.features_of(stacked))
        mean = logits.view(len(self.views), standard.shape[0], -1).mean(dim=0)
        calibrated: Tensor = mean / self.network.temperature
        return calibrated


def deployed(model: ModelFile, views: int | None = None) -> Deployed:
    """A model's network, copied to the CPU in evaluation mode, whatever device it was trained on.

    Args:
        model: the model.
        views: flips and quarter turns to average over, None for the model's own.
    """
    network = copy.deepcopy(model.network).to("cpu", torch.float32).eval().requires_grad_(False)
    # torch.export.save takes tensors in channels_last for slices of larger ones, and warns.
    network = network.to(memory_format=torch.contiguous_format)
    return Deployed(network, views or model.contract.spec.views).eval()
