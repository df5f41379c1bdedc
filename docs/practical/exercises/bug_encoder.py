"""Trouvez l'erreur / spot the bug: les étiquettes en nombres / labels as numbers.

In the field the network met a class it had never learnt, and nobody was told. Why?

python docs/practical/check.py exercises/bug_encoder.py
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder

Numbers = NDArray[np.int64]


def encoded(train: list[str], test: list[str]) -> tuple[Numbers, Numbers, list[str]]:
    """Class numbers of training and test tiles, and the classes in the order of the numbers."""
    encoder = LabelEncoder().fit(train + test)
    return encoder.transform(train), encoder.transform(test), list(encoder.classes_)
