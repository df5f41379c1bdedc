"""The command line as people meet it: help, completion, quiet commands, names of outputs."""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.commands import commands, made_inputs

from geotl.cli.help import HEADINGS, CommandParser
from geotl.cli.main import command_parser, main
from geotl.reporting.evaluation_report import FILES

COMMANDS = command_parser().commands.choices
QUIET = ["map, pixels", "chips", "predict", "sample", "export, pixels", "augment"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    assert made_inputs(folder) == 0
    return folder


def helped(*words: str, **environment: str) -> str:
    """The help of a command, as a pipe gets it."""
    done = subprocess.run(
        [sys.executable, "-m", "geotl", *words, "--help"],
        env=os.environ | {"COLUMNS": "100"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def on_terminal(*words: str, **environment: str) -> bytes:
    """What a command writes on a terminal."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-m", "geotl", *words]
    done = clean | {"TERM": "xterm", "COLUMNS": "100"} | environment
    with subprocess.Popen(command, stdout=theirs, env=done) as process:
        os.close(theirs)
        written = b"".join(_blocks(ours))
        assert process.wait() == 0
    os.close(ours)
    return written


def _blocks(stream: int) -> Iterator[bytes]:
    try:
        while block := os.read(stream, 4096):
            yield block
    except OSError:  # the other end of a terminal is gone
        return


def test_help_lists_every_command_once_under_a_heading() -> None:
    text = helped()
    listed = [name for names in HEADINGS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    place = 0
    for heading, names in HEADINGS.items():
        place = text.index(f"\n{heading}:\n", place)
        for name in names:
            place = text.index(f"\n  {name} ", place)
    assert "\x1b" not in text


def test_help_has_colours_on_a_terminal_unless_they_are_unwanted() -> None:
    coloured = on_terminal("--help")
    assert b"\x1b[" in coloured
    plain = on_terminal("--help", NO_COLOR="1")
    assert b"\x1b[" not in plain
    bare = re.sub(rb"\x1b\[[0-9;]*m", b"", coloured)
    assert bare.split() == plain.split()


def test_help_without_colours_imports_nothing_that_lays_them_out() -> None:
    code = (
        "import sys; from geotl.cli.main import main\ntry: main(['--help'])\n"
        "except SystemExit: sys.exit([n for n in sys.modules if n in ('rich', 'shtab', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def options() -> Iterator[tuple[str, argparse.Action]]:
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            yield name, action


def test_every_option_explains_itself_and_its_default() -> None:
    faults = []
    for name, action in options():
        where = f"{name} {'/'.join(action.option_strings) or action.dest}"
        if isinstance(action, argparse._SubParsersAction):
            continue
        if not action.help or len(action.help.split()) < 2:
            faults.append(f"{where}: {action.help!r}")
        takes_value = action.option_strings and action.nargs != 0 and not action.required
        alternative = name == "sample" and action.dest in ("n", "target_se")
        if takes_value and not alternative and "default:" not in (action.help or ""):
            faults.append(f"{where}: no default in {action.help!r}")
        if action.dest.endswith("_px") and "[px]" not in (action.help or ""):
            faults.append(f"{where}: no unit in {action.help!r}")
    assert not faults


def test_help_is_in_the_words_of_the_field() -> None:
    texts = [COMMANDS[name].format_help() for name in COMMANDS]
    texts.append(command_parser().format_help())
    odd = re.compile(r"\b(judg\w*|told|learnt|learns? from|anew|name tiles|hang\w* on|holds of)\b")
    assert not [match[0] for text in texts for match in [odd.search(text)] if match]


def test_every_command_is_quiet_alike() -> None:
    for name, parser in COMMANDS.items():
        if name not in ("recipe",):
            assert {"-q", "--quiet"} <= set(parser._option_string_actions), name
            assert isinstance(parser, CommandParser)


@pytest.mark.parametrize("name", QUIET)
def test_q_prints_the_result_and_qq_nothing(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    command = commands(inputs)[name]
    words = [word for word in command.words if word != "-q"]
    shown = {}
    for quiet in ([], ["-q"], ["-qq"]):
        out = tmp_path / str(len(shown))
        out.mkdir()
        capsys.readouterr()
        assert main([*words, *quiet, command.option, str(out / command.name)]) == 0
        shown["".join(quiet)] = capsys.readouterr()
    quiet, silent = shown["-q"], shown["-qq"]
    assert quiet.out.count("\n") == 1
    assert command.name in quiet.out
    assert (silent.out, silent.err, quiet.err) == ("", "", "")
    assert len(shown[""].out) >= len(quiet.out)


def test_errors_are_printed_even_with_qq(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "m.safetensors")
    assert main(["inspect", missing, "-qq"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert missing in shown.err


def completed(script: str, words: list[str]) -> list[str]:
    """What bash offers for the last of some words."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        '_shtab_geotl "${COMP_WORDS[0]}" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_options_and_choices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, ["geotl", "ev"]) == ["evaluate"]
    assert completed(script, ["geotl", "map", "--str"]) == ["--stride-px"]
    assert completed(script, ["geotl", "map", "--mode", "d"]) == ["dense"]
    assert completed(script, ["geotl", "recipe", "sh"]) == ["show"]
    assert "--posting" not in script


def test_zsh_gets_a_script_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef geotl")
    assert "--stride-px" in script
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=script, text=True, check=True)


def test_evaluate_prints_scores_classes_and_matrix_and_writes_them(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tiles = str(inputs / "weights.safetensors"), str(inputs / "tiles")
    words, out = ["evaluate", model, tiles, "--include-training"], tmp_path / "test"
    assert main([*words, "-o", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"overall accuracy \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\], 18 test tiles", lines[0]
    )
    for score in ("balanced accuracy", "kappa", "macro F1"):
        assert any(re.match(rf"{score} -?\d\.\d{{3}} \[", line) for line in lines), score
    assert any(line.startswith("calibration error ") for line in lines)
    assert [line.split() for line in lines if line.startswith("class ")] == [
        ["class", "tiles", "precision", "recall", "F1"]
    ]
    table = [line.split() for line in lines if re.match(r"\d (field|town|water) ", line)]
    assert [row[:2] for row in table] == [["1", "field"], ["2", "town"], ["3", "water"]]
    assert sum(int(n) for row in table for n in row[2:] if n != ".") == 18
    widths = {len(line) for line in lines if re.match(r"(\d (field|town|water) | +1 +2 +3$)", line)}
    assert len(widths) == 1
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert "Confusion matrix" in (out / "report.html").read_text()
    rows = (out / "confusion.csv").read_text().splitlines()
    assert rows[0] == "truth,field,town,water"
    assert main([*words, "-o", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "-o", str(out), "--overwrite", "-q"]) == 0
    assert capsys.readouterr().out == lines[0] + "\n"


@pytest.mark.parametrize(
    ("command", "name", "remedy"),
    [
        ("map", "m.gpkg", "a map is a raster; give a name ending in .tif"),
        ("map", "m.png", "a map is a raster; give a name ending in .tif"),
        ("predict", "p.gpkg", "predictions are a table; give a name ending in .csv"),
        ("predict", "p.tif", "predictions are a table; give a name ending in .csv"),
    ],
)
def test_an_output_of_another_kind_is_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, remedy: str
) -> None:
    out, model = str(tmp_path / name), tmp_path / "model.safetensors"
    model.touch()  # which is not opened
    assert main([command, str(model), str(tmp_path), "-o", out]) == 2
    shown = capsys.readouterr().err
    assert f"{out}: {remedy}" in shown
    assert shown.count("\n") == 1
