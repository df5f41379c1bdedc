"""Augmentation in the lecture: its promises, and claims that a broken one must not pass."""

from __future__ import annotations

import pytest

from geotl.lecture import augmentations
from geotl.lecture.recipes import NUMBERS
from geotl.lecture.samples import draw, sample
from geotl.training.augment import augment
from geotl.training.settings import Augmentation


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        sample.cache_clear()
        yield
    sample.cache_clear()


KINDS = {
    "turns": Augmentation(),
    "rotate": Augmentation(flips=False, quarter_turns=False, rotate_deg=180),
    "crop": Augmentation(flips=False, quarter_turns=False, crop=0.3),
    "noise": Augmentation(flips=False, quarter_turns=False, noise=0.5),
    "blur": Augmentation(flips=False, quarter_turns=False, blur=3.0),
    "erase": Augmentation(flips=False, quarter_turns=False, erase=1.0),
    "kornia": Augmentation(kornia=["RandomPerspective", {"RandomErasing": {"p": 1.0}}]),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_augmentations_keep_their_promises(kind: Augmentation) -> None:
    numbers = NUMBERS["augmentation"](shots=4)
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    found = augmentations.promises(source, rows, kind)
    assert found.held, found.measured


@pytest.mark.parametrize("name", ["turns", "noise", "blur", "erase"])
def test_a_broken_augmentation_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch, *args, **more):
        after = augment(batch, *args, **more)
        return after | {"image": after["image"] * 1.05 + 1}

    monkeypatch.setattr(augmentations, "augment", broken)
    numbers = NUMBERS["augmentation"](shots=4)
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    assert not augmentations.promises(source, rows, KINDS[name]).held
