"""Options under the names that they had before: they work, and warn with one line."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geotl
from geotl import api
from geotl.cli.main import command_parser, main
from geotl.cli.old_options import OLD_OPTIONS, with_new_options
from geotl.console import warn_once

COMMANDS = command_parser().commands.choices
PAIRS = [(name, old, new) for name, pairs in OLD_OPTIONS.items() for old, new in pairs.items()]
NEEDED = {
    "run": ["r"],
    "curve": ["r"],
    "diagnose": ["r"],
    "study": ["r"],
    "generate": ["r"],
    "augment": ["r", "-o", "a"],
    "chips": ["s", "l", "-o", "a"],
    "suggest": ["m", "s", "-o", "a"],
    "sample": ["m", "-n", "9"],
    "predict": ["m", "t", "-o", "a"],
    "evaluate": ["m", "d"],
    "map": ["m", "s", "-o", "a"],
    "export": ["m", "--format", "mlm", "-o", "a"],
}
FLAGS = {"--skip-value-check", "--include-training", "--ignore-applicability"}


def parsed(words: list[str]) -> dict[str, Any]:
    given = vars(command_parser().parse_args(words))
    return {name: value for name, value in given.items() if name != "command"}


@pytest.mark.parametrize(("command", "old", "new"), PAIRS)
def test_an_old_option_means_the_new_one(command: str, old: str, new: str) -> None:
    assert new in COMMANDS[command].format_help()
    assert f"{old} " not in COMMANDS[command].format_help()
    value = [] if new in FLAGS else ["7"]
    words = [command, *NEEDED.get(command, [])]
    changed, found = with_new_options([*words, old, *value])
    assert found == {old: new}
    assert parsed(changed) == parsed([*words, new, *value]) != parsed(words)
    if value:
        assert with_new_options([*words, f"{old}=7"])[0] == [*words, f"{new}=7"]


@pytest.mark.parametrize(("command", "old", "new"), PAIRS)
def test_an_old_option_warns_once(
    capsys: pytest.CaptureFixture[str], command: str, old: str, new: str
) -> None:
    warn_once.cache_clear()
    line = f"geotl: {old} is now {new}; the old name works until the next release\n"
    value = [] if new in FLAGS else ["7"]
    for _ in range(2):
        with pytest.raises(SystemExit):  # of an option that no command has
            main([command, *NEEDED.get(command, []), old, *value, "--no-such-option"])
    assert capsys.readouterr().err.count(line) == 1


def test_words_that_only_look_like_old_options_stay() -> None:
    words = ["lecture", "--all", "--out", "x", "--", "--out"]
    assert with_new_options(words)[0] == ["lecture", "--all", "--output", "x", "--", "--out"]
    assert with_new_options(["check", "--out", "x"]) == (["check", "--out", "x"], {})
    assert with_new_options([]) == ([], {})


def test_every_command_that_writes_takes_o_and_output() -> None:
    for name, parser in COMMANDS.items():
        names = set(itertools.chain(*(action.option_strings for action in parser._actions)))
        written = {"--out", "--preview"} & names
        assert not written, name
        if "--overwrite" in names or "--resume" in names or name in OLD_OPTIONS:
            assert {"-o", "--output"} <= names, name


class Answering(api.Model):
    """A model that only says how it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    @property
    def model_file(self) -> Any:
        return "the file"

    @api._with_old_arguments
    def evaluate(self, data: Any, **given: Any) -> Any:
        self.asked = given
        return data


@pytest.mark.parametrize(
    ("old", "new"),
    [("say", "log"), ("force", "skip_value_check"), ("learnt", "include_training")],
)
def test_an_old_argument_works_and_warns(old: str, new: str) -> None:
    model = Answering()
    with pytest.warns(DeprecationWarning, match=f"{old}= is now {new}=") as warned:
        model.evaluate("tiles", **{old: print})
    assert model.asked == {new: print}
    assert len(warned) == 1
    assert Path(warned[0].filename) == Path(__file__)


def test_the_old_name_of_the_model_file_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="Model.whole is now Model.model_file"):
        assert Answering().whole == "the file"


def test_predict_takes_old_arguments_too() -> None:
    with (
        pytest.warns(DeprecationWarning, match="force= is now skip_value_check="),
        pytest.raises(TypeError, match="no_such"),
    ):
        geotl.Model.predict(Answering(), np.zeros(1), force=True, no_such=1)  # type: ignore[call-arg]
