"""docs/KORNIA.md lists what is accepted and refused, as the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from helpers.kornia_examples import accepted_table, refused_table

from geotl.training.kornia_names import NOT_ARGUMENTS
from geotl.training.settings import Augmentation

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "KORNIA.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [accepted_table, refused_table])
def test_the_page_has_the_rows_of_the_code(table) -> None:
    assert "\n".join(table()) + "\n" in TEXT


def test_every_example_of_the_page_is_a_recipe() -> None:
    examples = re.findall(r"\| `(.+)` \|$", TEXT, flags=re.MULTILINE)
    assert len(examples) >= 48
    for text in examples:
        (step,) = Augmentation(kornia=[yaml.safe_load(text)]).kornia
        assert len(step) == 1
    (block,) = re.findall(r"^    augment:\n(?:      .*\n)+", TEXT, flags=re.MULTILINE)
    assert len(Augmentation(**yaml.safe_load(block)["augment"]).kornia) == 3


def test_the_page_names_the_arguments_that_are_not_taken() -> None:
    listed = TEXT.partition("cannot be another. ")[2].partition(" are not arguments")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == {*NOT_ARGUMENTS}
