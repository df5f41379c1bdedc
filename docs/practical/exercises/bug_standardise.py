"""Trouvez l'erreur / spot the bug: les images avant le réseau / images before the network.

Le réseau apprend bien, puis se trompe sur ses propres images. Pourquoi ?
The network learns well and is then bad on the very images that it was trained on. Why?

python docs/practical/check.py exercises/bug_standardise.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geotl.arrays import Float64s


def prepared(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> tuple[Float64s, Float64s]:
    """Images d'entraînement et de test, octets [N, C, S, S], telles que le réseau les reçoit.

    Training and test images, bytes [N, C, S, S], as the network gets them.
    """
    x_train, x_test = train / 255, test / 255
    mean, sd = x_train.mean(), x_train.std()
    x_train = (x_train - mean) / sd
    return x_train, x_test
