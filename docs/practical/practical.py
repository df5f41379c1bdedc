# The practical's cells: `# %%` begins code, `# %% [markdown]` begins text.
# practical.ipynb is made from this file: `make practical`.

# %% [markdown]
# # Régularisation et transfert, en pratique
# *Regularisation and transfer, in practice*
#
# Le parcours du notebook du cours, avec PyTorch et geotl. Rien n'est téléchargé : le TP tourne sur
# vos fichiers MNIST et Fashion-MNIST si `GEOTL_MNIST` nomme leur dossier, sinon sur les tuiles
# d'exemple (synthétiques) livrées avec geotl.
#
# *The path of the lecture's notebook, with PyTorch and geotl. Nothing is downloaded: it runs on
# your MNIST and Fashion-MNIST files if `GEOTL_MNIST` names their folder, else on the (synthetic)
# sample tiles that come with geotl.*

# %%
import copy
import json
import os
from pathlib import Path

import numpy as np
import torch
from check import CHECKS, fault, imported
from IPython.display import Image, display
from pictures import load
from practice import both, evaluated, fit, scaled, shifted, shown, summary, trainable
from torch import nn
from torch.nn import functional as F

from geotl.training.augment import augment
from geotl.training.settings import Augmentation, Light
from geotl.evaluation.overfitting import diagnose
from geotl.evaluation.evaluate import commonest
from geotl.models.registry import REGISTRY
from geotl.reporting.figures import confusion_figure, curves_figure, sheet_figure, write_png
from geotl.io.files import write_text
from geotl.language import VARIABLE
from geotl.models.classifier import Normalise
from geotl.evaluation.metrics import wilson

os.environ.setdefault(VARIABLE, "fr")  # figures; GEOTL_LANG=en for English ones
torch.manual_seed(0)
torch.set_num_threads(1)  # the same figures on every run
EPOCHS = int(os.environ.get("GEOTL_PRACTICAL_EPOCHS", "30"))
OUT = Path(os.environ.get("GEOTL_PRACTICAL_OUT", "outputs"))

# %% [markdown]
# ## 1. Un réseau préentraîné : VGG-16
# *A pretrained network: VGG-16*
#
# **Attention :** la diapositive annonce InceptionV3, mais son code charge VGG16. Ce sont deux
# réseaux différents. Voici le résumé de celui qui est chargé.
#
# *Mind: the slide announces InceptionV3, but its code loads VGG16. They are two different
# networks. This is the summary of the one that is loaded.*

# %%
print("\n".join(summary("vgg16")))

# %%
for name in ("vgg16", "inception_v3"):
    print(f"{REGISTRY[name].title:<32}{REGISTRY[name].parameters:>14,} paramètres | parameters")

# %% [markdown]
# Les trois couches denses de VGG-16 portent 124 des 138 millions de paramètres. Inception v3 (ici
# sans sa sortie auxiliaire) n'en a que 24 millions. Pour charger de vrais poids :
# `geotl backbones` et `model.weights` d'une recette.
#
# *VGG-16's three dense layers hold 124 of its 138 million parameters. Inception v3 (here without
# its auxiliary output) has 24 million in all. For real weights: `geotl backbones` and a recipe's
# `model.weights`.*

# %% [markdown]
# ## 2. Les images
# *The images*
#
# Le cours prend 1 024 images. Les tuiles d'exemple sont moins nombreuses : on les prend toutes, et
# les sites de test ne sont pas ceux de l'entraînement.
#
# *The lecture takes 1,024 images. There are fewer sample tiles: all are taken, and the sites
# tested are others than those of the training.*

# %%
first, second = load()
for data in (first, second):
    print(f"{data.name} : {len(data.learn)} images pour apprendre, {len(data.test)} pour tester")
    print(f"   {len(data.learn)} images to learn from, {len(data.test)} to be tested on")
    print(f"   {data.learn.images.shape[1:]} {data.learn.images.dtype}: {', '.join(data.classes)}")


# %%
def sheet(images, captions, title, note, columns):
    return Image(sheet_figure([shown(one) for one in images], captions, title, note, columns))


four = np.random.default_rng(0).choice(len(first.learn), 4, replace=False)
names = [first.classes[label] for label in first.learn.labels[four]]
sheet(first.learn.images[four], names, "Quatre images | Four images", first.name, 4)

# %% [markdown]
# ## 3. Diviser par 255, coder les étiquettes
# *Divide by 255, encode the labels*

# %%
x = scaled(first.learn)
y = F.one_hot(torch.from_numpy(first.learn.labels), len(first.classes))
print(f"images {tuple(x.shape)}, min {x.min():.2f}, max {x.max():.2f}")
for row in four:
    print(f"{first.classes[first.learn.labels[row]]:<18}{y[row].tolist()}")

# %% [markdown]
# ## 4. Augmenter
# *Augment*
#
# Rotation de 20 degrés au plus, décalages de 10 %, luminosité. La **standardisation** est rangée
# dans le réseau (`Normalise`, moyenne et écart-type des images d'entraînement) : ainsi personne ne
# l'oublie à l'évaluation. C'est l'une des erreurs à trouver plus bas.
#
# *Rotation by up to 20 degrees, shifts by 10 %, brightness. The standardisation lives in the
# network (`Normalise`, mean and sd of the training images), so that it is not forgotten in
# evaluation. That is one of the mistakes to find below.*

# %%
KIND = Augmentation(flips=False, quarter_turns=False, rotate_deg=20, brightness=0.2)


def change(images, generator):
    """Rotation, shifts and brightness of a batch [N, C, S, S]; corners take the median."""
    fill = x.movedim(1, 0).flatten(1).median(dim=1).values
    moved = shifted(images, 0.1, generator)
    batch = {"image": moved, "valid": torch.ones_like(moved[:, :1], dtype=torch.bool)}
    sd = torch.ones(images.shape[1])
    varied = augment(batch, KIND, generator, band_sd=sd, fill=fill, light=Light())
    return varied["image"].clamp(0, 1)


nine = change(x[four[:1]].repeat(9, 1, 1, 1), torch.Generator().manual_seed(0))
sheet(nine, [str(n) for n in range(1, 10)], "Neuf aperçus d'une image | Nine previews", names[0], 3)

# %% [markdown]
# ## 5. Un petit CNN
# *A small CNN*
#
# 16 filtres 5x5, 8 filtres 5x5, normalisation par lots, une couche dense. Sur MNIST (28 px, 1
# canal, 10 classes) : 35 650 paramètres entraînables. SGD, taux d'apprentissage 0,1, lots de 128.
#
# *16 filters 5x5, 8 filters 5x5, batch normalisation, one dense layer. On MNIST (28 px, 1 channel,
# 10 classes): 35,650 trainable parameters. SGD, rate 0.1, batches of 128.*


# %%
def small_cnn(bands, px, classes):
    return nn.Sequential(
        nn.Conv2d(bands, 16, 5),
        nn.ReLU(),
        nn.Conv2d(16, 8, 5),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * (px - 8) ** 2, classes),
    )


print(f"MNIST: {trainable(small_cnn(1, 28, 10)):,} paramètres entraînables | trainable parameters")
print(f"ici | here: {trainable(small_cnn(x.shape[1], x.shape[2], len(first.classes))):,}")

# %%
standardise = Normalise(x.mean((0, 2, 3)).tolist(), x.std((0, 2, 3)).tolist())
network = nn.Sequential(standardise, small_cnn(x.shape[1], x.shape[2], len(first.classes)))
sgd = torch.optim.SGD(network.parameters(), lr=0.1)
history = fit(network, sgd, first.learn, epochs=EPOCHS, batch_size=128, change=change)
for row in history[:: max(1, len(history) // 5)]:
    print(
        f"époque | epoch {row['epoch']:3.0f}   perte | loss {row['train_loss']:.3f}   "
        f"exactitude | accuracy {row['train_accuracy']:.3f}"
    )

# %% [markdown]
# ## 6. Le même modèle, tel quel, sur un autre jeu
# *The same model, unchanged, on another data set*
#
# Pour MNIST et Fashion-MNIST, le numéro 3 est un chiffre ici et une robe là : le modèle ne peut que
# deviner. Les deux régions des tuiles ont les mêmes classes : on juge donc deux fois, avec les
# mêmes numéros (seule la région change), puis avec des numéros décalés d'un, qui désignent autre
# chose, comme entre MNIST et Fashion-MNIST.
#
# *Between MNIST and Fashion-MNIST, number 3 is a digit here and a dress there: the model can only
# guess. The tiles' two regions have the same classes, so it is tested twice: with the same numbers
# (only the region changes), and with numbers moved by one, which mean something else, as between
# MNIST and Fashion-MNIST.*

# %%
own = evaluated(network, first.test, first.classes)
print(f"{first.name}\n   {both(own.headline)}")
unchanged = evaluated(network, second.test, second.classes)
print(f"{second.name}, tel quel | unchanged\n   {both(unchanged.headline)}")
if first.classes == second.classes:
    moved = (second.test.labels + 1) % len(second.classes)
    other = type(second.test)(second.test.images, moved)
    line = both(evaluated(network, other, second.classes).headline)
    print(f"   des numéros qui désignent autre chose | numbers that mean something else\n   {line}")
most, chance = commonest(second.test.labels, len(second.classes))
print(f"   toujours répondre | always answering {second.classes[most]}\n   {both(str(chance))}")

# %%
Image(confusion_figure(unchanged.matrix, second.classes, "Tel quel sur le second jeu | Unchanged"))

# %% [markdown]
# ## 7. Réentraîner, avec 30 % de validation
# *Train again, with 30 % to validate on*
#
# On part des poids du premier modèle : c'est un transfert. Les tuiles d'un même site se
# ressemblent : la validation prend donc des sites entiers.
#
# *It starts from the first model's weights: that is transfer. Tiles of one site resemble each
# other, so whole sites are held out.*

# %%
learn, held = second.learn.split(0.3)
print(f"{len(learn)} images pour apprendre, {len(held)} pour valider")
print(f"{len(learn)} images to learn from, {len(held)} to validate on")
again = copy.deepcopy(network)
sgd = torch.optim.SGD(again.parameters(), lr=0.1)
history = fit(again, sgd, learn, held, epochs=EPOCHS, batch_size=128, change=change)

curves = curves_figure(history)
write_png(OUT / "curves.png", curves)
write_text(OUT / "history.json", json.dumps(history, indent=1))
display(Image(curves))

# %%
result = evaluated(again, second.test, second.classes)
print(f"{second.name}, réentraîné | retrained\n   {both(result.headline)}")
right = [
    round(history[-1][f"{side}_accuracy"] * len(part))
    for side, part in (("train", learn), ("val", held))
]
verdict = diagnose(wilson(right[0], len(learn)), wilson(right[1], len(held)), target=0.9)
print(both(verdict.line()))

# %% [markdown]
# ## 8. À vous
# *Your turn*
#
# - `exercises/lenet5.py` : LeNet-5, dropout 0,3 après les deux poolings et les deux couches
#   cachées, Adam 0,01, historique tracé. *Dropout .3 after both pools and both hidden layers, Adam
#   .01, history plotted.*
# - `exercises/bug_standardise.py`, `bug_figure.py`, `bug_encoder.py` : trouvez l'erreur dans
#   chacun. *Find the mistake in each.*
#
# Les trois erreurs étaient dans le notebook du cours. *The three mistakes were in the lecture's
# notebook.* Pour savoir, ici ou dans un terminal, *to know, here or in a terminal*:
#
#     python docs/practical/check.py exercises/lenet5.py

# %%
for name in CHECKS:
    print(f"{name}: {fault(Path('exercises', name + '.py')) or 'juste | right'}")

# %% [markdown]
# Une fois juste, votre LeNet-5 apprend ici. *Once it is right, your LeNet-5 learns here.*

# %%
if fault(Path("exercises/lenet5.py")) is None:
    answer = imported(Path("exercises/lenet5.py"))
    learn, held = first.learn.split(0.3)
    lenet = answer.network(x.shape[1], x.shape[2], len(first.classes))
    history = fit(lenet, answer.optimizer(lenet), learn, held, epochs=EPOCHS)
    answer.plot(history, OUT / "lenet5.png")
    display(Image(OUT / "lenet5.png"))
    print(f"LeNet-5, {first.name}\n   {both(evaluated(lenet, first.test, first.classes).headline)}")
else:
    print("LeNet-5: pas encore juste | not right yet")
