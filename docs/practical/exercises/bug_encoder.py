"""Trouvez l'erreur / spot the bug: les étiquettes en nombres / labels as numbers.

Sur le terrain, le réseau a rencontré une classe qu'il n'avait jamais apprise, et personne n'a
été averti. Pourquoi ?
In the field the network met a class without training images, and no message said so. Why?

python docs/practical/check.py exercises/bug_encoder.py
"""

from __future__ import annotations

from sklearn.preprocessing import LabelEncoder

from geotl.arrays import Int64s


def encoded(train: list[str], test: list[str]) -> tuple[Int64s, Int64s, list[str]]:
    """Numéros des classes des tuiles d'entraînement et de test, et les classes dans leur ordre.

    Class numbers of training and test tiles, and the classes in the order of the numbers.
    """
    encoder = LabelEncoder().fit(train + test)
    return encoder.transform(train), encoder.transform(test), list(encoder.classes_)
