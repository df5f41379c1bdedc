"""The mistake: the encoder is fitted on training and test labels together."""

from __future__ import annotations

from sklearn.preprocessing import LabelEncoder

from geotl.arrays import Int64s


def encoded(train: list[str], test: list[str]) -> tuple[Int64s, Int64s, list[str]]:
    """Numbers follow from the training labels alone; an unknown test class is an error."""
    encoder = LabelEncoder().fit(train)
    return encoder.transform(train), encoder.transform(test), list(encoder.classes_)
