"""Words that several demonstrations write on their figures, in both languages."""

from __future__ import annotations

from geotl.lecture.texts import Both

TRAINING = Both(fr="entraînement", en="training")
TEST = Both(fr="test", en="test")
GAP = Both(fr="écart", en="gap")
ACCURACY = Both(fr="exactitude", en="accuracy")
ERROR = Both(fr="taux d'erreur", en="error")
TRAINING_ACCURACY = Both(fr="exactitude d'entraînement", en="training accuracy")
TEST_ACCURACY = Both(fr="exactitude de test", en="test accuracy")
ACCURACY_GAP = Both(
    fr="écart entre l'entraînement et le test", en="gap between training and test accuracy"
)
EPOCH = Both(fr="époque", en="epoch")
STEP = Both(fr="pas", en="step")
WEIGHT = Both(fr="poids", en="weight")
CLASSES = {  # of the sample tiles
    "broadleaf_forest": Both(fr="forêt de feuillus", en="broadleaf forest"),
    "conifer_forest": Both(fr="forêt de conifères", en="conifer forest"),
    "cropland": Both(fr="cultures", en="cropland"),
    "industrial": Both(fr="zone industrielle", en="industrial"),
    "orchard": Both(fr="verger", en="orchard"),
    "pasture": Both(fr="prairie", en="pasture"),
    "residential": Both(fr="zone résidentielle", en="residential"),
    "river": Both(fr="rivière", en="river"),
    "wetland": Both(fr="zone humide", en="wetland"),
}


def class_name(name: str) -> str | Both:
    """A class on a figure: that of the sample tiles in both languages, any other as it is given.

    >>> class_name("river").fr, class_name("sand_dunes")
    ('rivière', 'sand dunes')
    """
    return CLASSES.get(name, name.replace("_", " "))


def sentence(what: Both) -> Both:
    """A text as the head of a sentence, before its figures.

    >>> sentence(GAP).fr, sentence(GAP).en
    ('Écart :', 'Gap:')
    """
    return Both(fr=f"{what.fr[:1].upper()}{what.fr[1:]} :", en=f"{what.en.capitalize()}:")
