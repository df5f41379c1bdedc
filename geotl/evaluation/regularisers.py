"""The regularisers of a recipe: which there are, which are on, and what turns each off.

Explicit ones are there to regularise (weight decay, dropout, augmentation); of implicit ones
(early stopping, batch normalisation, gradient descent, transfer) that is a side effect: so the
lecture sorts them. Settings come as plain values by section, as a recipe dumps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from geotl.language import msg

Kind = Literal["explicit", "implicit"]
Settings = Mapping[str, Any]
State = Literal["on", "off", "not in play"]
STATES = {
    "explicit": msg("explicit"),
    "implicit": msg("implicit"),
    "on": msg("on"),
    "off": msg("off"),
    "not in play": msg("not in play"),
}
NOT_TRAINED = msg("a probe's head is solved for, not trained")


@dataclass(frozen=True)
class Regulariser:
    """A regulariser of a recipe.

    Attributes:
        name: name for users.
        kind: explicit or implicit.
        state: on, off, or not in play where the strategy does not use it.
        setting: its setting in the recipe, or why it is not in play.
        change: key=value that turns it on, or further up; empty where nothing does.
        off: keys and values that turn it off.
    """

    name: str
    kind: Kind
    state: State
    setting: str
    change: str = ""
    off: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RegulariserKey:
    """A regulariser set by one key: its value when off, and one worth trying."""

    name: str
    key: str
    off: Any
    attempt: str


_EXPLICIT = (
    RegulariserKey(msg("weight decay"), "train.weight_decay", 0.0, "0.1"),
    RegulariserKey(msg("weight decay in the cost (L2)"), "train.l2", 0.0, "0.001"),
    RegulariserKey(msg("dropout"), "model.dropout", 0.0, "0.3"),
    RegulariserKey(msg("label smoothing"), "train.label_smoothing", 0.0, "0.1"),
)


def value_of(settings: Settings, key: str) -> Any:
    """The value of a dotted key.

    >>> value_of({"train": {"lr": 0.1}}, "train.lr")
    0.1
    """
    for part in key.split("."):
        settings = settings[part]
    return settings


def regularisers(
    settings: Settings, augmentations: Sequence[RegulariserKey], *, batchnorm: str
) -> list[Regulariser]:
    """Every regulariser of a resolved recipe, explicit ones first.

    Args:
        settings: the recipe's values by section.
        augmentations: augmentations that the training can use; see `settings.augmentation_keys`.
        batchnorm: batch normalisation of the network: none, trained, or held at its stored
            statistics.
    """
    probe = settings["strategy"] == "probe"
    keys = (*_EXPLICIT, *augmentations)
    explicit = _of_a_probe(settings) if probe else [_by_key(settings, one) for one in keys]
    return explicit + _implicit(settings, batchnorm, probe=probe)


def everything_off(augmentations: Sequence[RegulariserKey]) -> dict[str, Any]:
    """Keys and values of a training in which every regulariser that has a switch is off.

    Transfer, batch normalisation and gradient descent have none: without them it would be another
    network or another start.
    """
    off = {one.key: one.off for one in (*_EXPLICIT, *augmentations)}
    implicit = {"train.patience": 0, "train.choice_folds": 0, "train.swa_from": None}
    return off | implicit | {"train.unfreeze_every": 0}


def _by_key(settings: Settings, one: RegulariserKey) -> Regulariser:
    value = value_of(settings, one.key)
    on = not _same(value, one.off)
    return Regulariser(
        one.name,
        "explicit",
        "on" if on else "off",
        f"{one.key}={written(value)}",
        "" if on and isinstance(value, bool) else f"{one.key}={_stronger(one, value, on=on)}",
        {one.key: one.off},
    )


def _stronger(one: RegulariserKey, value: Any, *, on: bool) -> str:
    """A value worth trying: the usual one where it is off; ten times weight decay that is on."""
    if on and one.key in ("train.weight_decay", "train.l2"):
        return f"{min(1.0, 10 * value):g}"
    return one.attempt


def _of_a_probe(settings: Settings) -> list[Regulariser]:
    probe = settings["probe"]
    if probe["head"] == "logistic":
        key, values, harder = (
            "probe.penalties",
            probe["penalties"],
            f"[{min(probe['penalties']):g}]",
        )
    else:
        key, values = "probe.shrinkages", probe["shrinkages"]
        harder = f"[{min(0.9, 2 * max(values)):g}]"
    views = probe["views"]
    decay = Regulariser(
        msg("penalty of the head (its weight decay)"),
        "explicit",
        "on",
        msg("{key}={written}, chosen by folds inside the labels", key=key, written=written(values)),
        f"{key}={harder}",
    )
    turned = Regulariser(
        msg("augmentation: flips and quarter turns"),
        "explicit",
        "on" if views > 1 else "off",
        f"probe.views={views}",
        "" if views == 8 else "probe.views=8",
        {"probe.views": 1},
    )
    idle = [
        Regulariser(name, "explicit", "not in play", NOT_TRAINED)
        for name in (msg("dropout"), msg("other augmentation"), msg("label smoothing"))
    ]
    return [decay, turned, *idle]


def _implicit(settings: Settings, batchnorm: str, *, probe: bool) -> list[Regulariser]:
    train, model = settings["train"], settings["model"]
    weights = model["weights"]
    transfer = Regulariser(
        msg("transfer"),
        "implicit",
        "off" if weights == "none" else "on",
        f"model.weights={weights}",
        "model.weights=FILE" if weights == "none" else "",
        {"model.weights": "none"},
    )
    if probe:
        stop = Regulariser(msg("early stopping"), "implicit", "not in play", NOT_TRAINED)
        descent = Regulariser(msg("gradient descent"), "implicit", "not in play", NOT_TRAINED)
    else:
        stop = _early_stopping(train["patience"], train["choice_folds"])
        descent = Regulariser(
            msg("gradient descent"),
            "implicit",
            "on",
            f"train.optimizer={train['optimizer']}, train.batch_size={train['batch_size']}, "
            f"train.lr={train['lr']:g}",
            f"train.batch_size={max(1, train['batch_size'] // 2)}",
        )
    return [stop, _normalisation(batchnorm), descent, transfer, _freezing(settings, probe=probe)]


def _early_stopping(patience: int, folds: int) -> Regulariser:
    """On where folds inside the labels choose the epoch, be it only the best of all epochs."""
    values = {"patience": patience, "folds": folds}
    setting = msg(
        "train.patience={patience}, train.choice_folds={folds}: all epochs are run", **values
    )
    change = "train.choice_folds=1"
    if folds:
        change = f"train.patience={max(2, patience // 2) if patience else 8}"
        setting = msg(
            "train.patience={patience}, train.choice_folds={folds}: folds inside the labels choose "
            "the epoch",
            **values,
        )
    off = {"train.patience": 0, "train.choice_folds": 0}
    state: State = "on" if folds else "off"
    return Regulariser(msg("early stopping"), "implicit", state, setting, change, off)


def _normalisation(batchnorm: str) -> Regulariser:
    states: dict[str, tuple[State, str]] = {
        "none": ("off", msg("the backbone has none")),
        "trained": ("on", msg("of the stages that are trained")),
        "held": ("not in play", msg("frozen at stored statistics, so it does not regularise")),
    }
    return Regulariser(msg("batch normalisation"), "implicit", *states[batchnorm])


def _freezing(settings: Settings, *, probe: bool) -> Regulariser:
    strategy, until = settings["strategy"], settings["freeze_until"]
    frozen = probe or strategy in ("finetune", "probe_then_finetune")
    setting = f"strategy={strategy}"
    setting += f", model.freeze_until={until}" if until else ""
    change = "" if probe else "strategy=probe" if frozen else "strategy=finetune"
    return Regulariser(msg("frozen stages"), "implicit", "on" if frozen else "off", setting, change)


def _same(value: Any, other: Any) -> bool:
    """Whether two settings are equal; a list may equal a tuple."""
    many = isinstance(value, list | tuple)
    return tuple(value) == tuple(other) if many else bool(value == other)


def written(value: Any) -> str:
    """A value as it is written on the command line.

    >>> written(False), written(0.0), written((1.0, 1.1)), written("none")
    ('false', '0', '[1,1.1]', 'none')
    >>> written(({"RandomRotation": {"degrees": 20.0}}, {"RandomInvert": {}}))
    '[{RandomRotation: {degrees: 20}},{RandomInvert: {}}]'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {written(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
