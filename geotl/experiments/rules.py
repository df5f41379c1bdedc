"""Which keys of a recipe contradict each other, and the message for each contradiction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SPATIAL = ("blocks", "group", "scene")  # ways to split that keep neighbours together


@dataclass(frozen=True)
class Rule:
    """Keys that contradict each other when `broken`; the message names the first."""

    keys: tuple[str, ...]
    broken: Callable[..., bool]
    says: str


RULES: tuple[Rule, ...] = (
    Rule(
        ("task", "data.scenes"),
        lambda task, scenes: task == "pixels" and not scenes,
        "given pixels without data.scenes, whose pixels are classified; allowed: tiles, or give "
        "data.scenes and labels.path",
    ),
    Rule(
        ("split.method", "task"),
        lambda method, task: task == "pixels" and method not in SPATIAL,
        "given {0} with task pixels; allowed: blocks, group or scene (pixels are tested by place)",
    ),
    Rule(
        ("split.kfold", "split.method", "task"),
        lambda kfold, method, task: (
            task == "pixels" and method in ("blocks", "group") and kfold is None
        ),
        "given null with task pixels; allowed: an integer, at least 2",
    ),
    Rule(
        ("strategy", "task"),
        lambda strategy, task: task == "pixels" and strategy not in ("auto", "finetune"),
        "given {0} with task pixels; allowed: auto, or finetune, which trains a decoder",
    ),
    Rule(
        ("strategy", "task", "model.weights"),
        lambda strategy, task, weights: (
            task == "pixels" and strategy == "finetune" and weights == "none"
        ),
        "given {0} with task pixels and model.weights none; allowed: auto, or name the weights",
    ),
    Rule(
        ("pixels.members", "task", "strategy", "decoder.kind"),
        lambda members, task, strategy, kind: (
            task == "pixels"
            and strategy in ("auto", "finetune")
            and members is not None
            and {name for name in members if name.startswith("decoder_")}
            != ({f"decoder_{kind}"} if strategy == "finetune" else set())
        ),
        "given {0} with strategy {2} and decoder.kind {3}; allowed: null, or the decoder of this "
        "kind with strategy finetune, and none without it",
    ),
    Rule(
        ("decoder.patch_px",),
        lambda side: side % 32 != 0,
        "given {0}; allowed: a multiple of 32, so that sides can be halved five times",
    ),
    *(
        Rule(
            (f"augment.{kind}", "task"),
            lambda strength, task: task == "pixels" and strength > 0,
            "given {0} with task pixels, whose labels are single pixels; allowed: 0, or task=tiles",
        )
        for kind in ("mixup", "cutmix")
    ),
    Rule(
        ("model.normalise", "task"),
        lambda kind, task: task == "pixels" and kind != "training",
        "given {0} with task pixels, whose network takes the scene's bands in their own standard "
        "deviations; allowed: training, or task=tiles",
    ),
    Rule(
        ("model.adabn", "task"),
        lambda kind, task: task == "pixels" and kind != "none",
        "given {0} with task pixels, whose network stays as it is; allowed: none, or task=tiles",
    ),
    Rule(
        ("model.backbone", "task"),
        lambda name, task: task != "pixels" and name == "none",
        "given none, which task pixels alone takes; allowed: the name of a network",
    ),
    Rule(
        ("labels.unlabelled", "task"),
        lambda count, task: task == "pixels" and count > 0,
        "given {0} with task pixels, which uses labelled pixels alone; allowed: 0, or task=tiles",
    ),
    Rule(
        ("probe.pool", "task"),
        lambda pool, task: task == "pixels" and pool is not None,
        "given {0} with task pixels, which uses labelled pixels alone; allowed: null, or "
        "task=tiles",
    ),
    Rule(
        ("probe.pool", "data.scenes", "labels.unlabelled"),
        lambda pool, scenes, count: (
            bool(scenes) and pool is not None and (pool != "windows" or count == 0)
        ),
        "given {0} with data.scenes and labels.unlabelled_windows {2}; allowed: null, or windows "
        "with labels.unlabelled_windows above 0",
    ),
    Rule(
        ("probe.pool", "data.scenes"),
        lambda pool, scenes: pool == "windows" and not scenes,
        "given windows without data.scenes, which they are drawn from; allowed: null, a folder, or "
        "a share of the undrawn tiles",
    ),
    Rule(
        ("probe.pool", "probe.unlabelled"),
        lambda pool, rule: pool is not None and rule != "none",
        "given {0} with probe.semi_supervised {1}, which is reported apart; allowed: one of the "
        "two",
    ),
    Rule(
        ("probe.pool", "probe.head", "strategy"),
        lambda pool, head, strategy: (
            pool is not None
            and strategy != "auto"
            and (head != "discriminant" or strategy != "probe")
        ),
        "given {0} with probe.head {1} and strategy {2}; allowed: null, or discriminant and probe",
    ),
    Rule(
        ("model.fuse_statistics", "probe.pool"),
        lambda fused, pool: fused is True and pool is not None,
        "given true with probe.pool {1}, whose head is fitted to the network's features alone; "
        "allowed: false, auto, or probe.pool=null",
    ),
    Rule(
        ("probe.pool", "split.kfold"),
        lambda pool, kfold: isinstance(pool, float) and kfold is not None,
        "given {0} with split.kfold {1}, in which each tile is tested; allowed: null or a folder",
    ),
    Rule(
        ("keep", "probe.pool"),
        lambda keep, pool: keep == "all" and isinstance(pool, float),
        "given all with probe.pool {1}, a share of the undrawn tiles, of which a model of all "
        "labels leaves none; allowed: first or null, or a folder",
    ),
    Rule(
        ("pixels.windows_px",),
        lambda sides: any(side % 2 == 0 for side in sides),
        "given {0}; allowed: odd sides, so that a window has a middle pixel",
    ),
    Rule(
        ("data.scenes", "data.root"),
        lambda scenes, root: bool(scenes) and root is not None,
        "given with data.root {1}; allowed: one of the two",
    ),
    Rule(
        ("data.scenes", "labels.path"),
        lambda scenes, path: bool(scenes) != (path is not None),
        "given {0} with labels.path {1}; allowed: both, or neither",
    ),
    Rule(
        ("keep", "split.method"),
        lambda keep, method: keep == "all" and method == "column",
        "given all with split.method column, whose test tiles no model is fitted to; allowed: "
        "first, or null",
    ),
    Rule(
        ("keep", "probe.unlabelled", "labels.unlabelled"),
        lambda keep, rule, count: keep == "all" and rule != "none" and count == 0,
        "given all with probe.semi_supervised {1}, which uses the pixels of the test tiles; "
        "allowed: first or null, or labels.unlabelled_windows above 0",
    ),
    Rule(
        ("data.synthetic", "data.scenes"),
        lambda folder, scenes: folder is not None and bool(scenes),
        "given {0} with data.scenes; allowed: null (chips join synthetic tiles in geotl generate)",
    ),
    Rule(
        ("data.synthetic", "split.draws", "split.kfold"),
        lambda folder, draws, kfold: folder is not None and (draws > 1 or kfold is not None),
        "given {0} with split.repeats {1} and split.kfold {2}; allowed: 1 and null, since its "
        "generator was trained on one draw (geotl generate compares over several)",
    ),
    Rule(
        ("labels.unlabelled", "data.scenes"),
        lambda count, scenes: count > 0 and not scenes,
        "given {0} without data.scenes, which windows are drawn from; allowed: 0, or give scenes",
    ),
    Rule(
        ("labels.unlabelled", "probe.unlabelled", "probe.pool"),
        lambda count, rule, pool: count > 0 and rule == "none" and pool is None,
        "given {0} with probe.semi_supervised none, which would not use them; allowed: 0, or "
        "probe.pool=windows, or probe.semi_supervised=pseudo_labels",
    ),
    Rule(
        ("data.tile_px", "data.scenes"),
        lambda px, scenes: px is not None and bool(scenes),
        "given {0} with data.scenes; allowed: null (labels.chip_px is the size of chips)",
    ),
    Rule(
        ("split.shots", "split.method"),
        lambda shots, method: method == "shots" and shots is None,
        "given {0} with split.method shots; allowed: an integer, at least 1",
    ),
    Rule(
        ("split.shots", "split.method"),
        lambda shots, method: method in ("stratified", "column") and shots is not None,
        "given {0} with split.method {1}; allowed: null, or split.method=shots, blocks or group",
    ),
    Rule(
        ("split.block_m", "split.method"),
        lambda side, method: side is not None and method != "blocks",
        "given {0} with split.method {1}; allowed: null, or split.method=blocks",
    ),
    Rule(
        ("split.buffer_m", "split.method"),
        lambda buffer, method: buffer > 0 and method not in SPATIAL,
        "given {0} with split.method {1}; allowed: 0, or split.method=blocks, group or scene",
    ),
    Rule(
        ("split.kfold", "split.method"),
        lambda kfold, method: kfold is not None and method not in SPATIAL,
        "given {0} with split.method {1}; allowed: null, or split.method=blocks, group or scene",
    ),
    Rule(
        ("split.draws", "split.kfold"),
        lambda draws, kfold: kfold is not None and draws not in (1, kfold),
        "given {0} with split.kfold {1}, whose folds are the repeats; allowed: leave it out",
    ),
    Rule(
        ("evaluate.random_split", "split.method"),
        lambda beside, method: beside is True and method not in SPATIAL,
        "given true with split.method {1}; allowed: false or null, or split.method=blocks, group "
        "or scene",
    ),
    Rule(
        ("model.weights", "strategy"),
        lambda weights, strategy: strategy == "scratch" and weights != "none",
        "given {0} with strategy scratch; allowed: none, or another strategy",
    ),
    Rule(
        ("model.sha256", "model.weights"),
        lambda sha256, weights: sha256 is not None and weights == "none",
        "given {0} with model.weights none; allowed: null, or name the weights",
    ),
    Rule(
        ("model.normalise", "model.weights"),
        lambda normalise, weights: normalise == "weights" and weights == "none",
        "given weights with model.weights none; allowed: training, or name the weights",
    ),
    Rule(
        ("freeze_until", "strategy"),
        lambda stage, strategy: stage is not None and strategy in ("full", "scratch"),
        "given {0} with strategy {1}, which freezes nothing; allowed: null, or strategy=finetune",
    ),
    Rule(
        ("freeze_until", "strategy"),
        lambda stage, strategy: stage is not None and strategy == "auto",
        "given {0} with strategy auto, which chooses it; allowed: null, or strategy=finetune",
    ),
    Rule(
        ("data.sensor", "data.custom_sensor"),
        lambda name, custom: (name == "custom") != (custom is not None),
        "given {0}; allowed: custom where data.custom_sensor is given, and only there",
    ),
    Rule(
        ("probe.unlabelled", "probe.head", "strategy"),
        lambda unlabelled, head, strategy: (
            unlabelled != "none"
            and strategy != "auto"
            and (head != "discriminant" or strategy != "probe")
        ),
        "given {0} with probe.head {1} and strategy {2}; allowed: none, or discriminant and probe",
    ),
    Rule(
        ("model.fuse_statistics", "task"),
        lambda fused, task: fused is True and task == "pixels",
        "given true with task pixels, whose members on bands are fused already (pixels.members); "
        "allowed: false, auto, or task=tiles",
    ),
    Rule(
        ("model.fuse_statistics", "probe.unlabelled"),
        lambda fused, unlabelled: fused is True and unlabelled != "none",
        "given true with probe.semi_supervised {1}, whose head is fitted to the network's features "
        "alone; allowed: false, auto, or probe.semi_supervised=none",
    ),
    Rule(
        ("model.fuse_statistics", "train.choice_folds", "strategy"),
        lambda fused, folds, strategy: (
            fused is True and folds == 0 and strategy not in ("auto", "probe")
        ),
        "given true with train.choice_folds 0 and strategy {2}, where no training tile is held out "
        "to weigh members by; allowed: false, auto, or train.choice_folds=1",
    ),
    Rule(
        ("model.adabn", "model.weights"),
        lambda adabn, weights: adabn != "none" and weights == "none",
        "given {0} with model.weights none; allowed: none, or name the weights",
    ),
    Rule(
        ("train.unfreeze_every", "strategy"),
        lambda every, strategy: every > 0 and strategy == "scratch",
        "given {0} with strategy scratch, whose random stages must all be trained; allowed: 0, or "
        "another strategy",
    ),
    Rule(
        ("train.class_weights", "probe.head", "strategy"),
        lambda weights, head, strategy: (
            isinstance(weights, dict) and head == "discriminant" and strategy == "probe"
        ),
        "given {0} with probe.head {1}, which weights classes equally; allowed: none, balanced, or "
        "probe.head=logistic",
    ),
    Rule(
        ("train.head_lr", "strategy"),
        lambda rate, strategy: rate == 0 and strategy != "probe_then_finetune",
        "given 0 with strategy {1}, whose head is random and would stay random; allowed: null, "
        "a number above 0, or strategy=probe_then_finetune",
    ),
    Rule(
        ("augment.erase_area",),
        lambda area: area[0] > area[1],
        "given {0}; allowed: the smaller share first",
    ),
    Rule(
        ("augment.scale",),
        lambda scale: scale[0] > scale[1],
        "given {0}; allowed: the smaller factor first",
    ),
)
