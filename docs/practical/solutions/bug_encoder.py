"""The mistake: the encoder is fitted on training and test labels together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder

Numbers = NDArray[np.int64]


def encoded(train: list[str], test: list[str]) -> tuple[Numbers, Numbers, list[str]]:
    """Numbers follow from the training labels alone; an unknown test class is an error."""
    encoder = LabelEncoder().fit(train)
    return encoder.transform(train), encoder.transform(test), list(encoder.classes_)
