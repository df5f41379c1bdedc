"""The mistake: training is standardised, evaluation is only divided by 255."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Float64s


def prepared(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> tuple[Float64s, Float64s]:
    """Both sides get the same; mean and sd are the training images' alone."""
    x_train, x_test = train / 255, test / 255
    mean, sd = x_train.mean(), x_train.std()
    return (x_train - mean) / sd, (x_test - mean) / sd
