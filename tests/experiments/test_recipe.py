"""Recipes: defaults, overrides, every fault at once, schema, reference."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import geotl
from geotl.cli.main import main
from geotl.errors import GeoTLError, RecipeError
from geotl.experiments import recipe as module
from geotl.experiments.recipe import (
    Recipe,
    available,
    dump,
    load,
    reference,
    resolve_root,
    resolve_weights,
    schema,
    titles,
    written_text,
)
from geotl.io import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stating(tmp_path):
    """Write a recipe of the given text and return its path."""

    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path, overrides=()) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(path, overrides)
    return str(caught.value).splitlines()


def test_an_empty_file_means_the_defaults(stating):
    assert load(stating("")) == Recipe(name="mine")
    assert load(stating("# nothing\ndata:\ntrain:\n")) == Recipe(name="mine")


def test_the_name_is_the_files_unless_stated(stating):
    assert load(stating("", "My Try (2).yaml")).name == "my-try-2"
    assert load(stating("name: other")).name == "other"
    assert load(stating("", "ß.yaml")).name == "run"


def test_only_what_is_stated_differs(stating):
    recipe = load(stating("model: {truncate_after: layer3, input_px: [64, 128]}\nseed: 7"))
    assert recipe.model.cut_after == "layer3"
    assert recipe.model.input_px == (64, 128)
    assert recipe.seed == 7
    assert recipe.train == Recipe().train


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().train.lr = 1.0


# --- overrides


@pytest.mark.parametrize(
    ("text", "section", "key", "value"),
    [
        ("train.lr=1e-3", "train", "lr", 0.001),
        ("train.lr=1", "train", "lr", 1.0),
        ("train.epochs=5", "train", "epochs", 5),
        ("augment.flips=false", "augment", "flips", False),
        ("augment.flips=no", "augment", "flips", False),
        ("augment.scale=[0.8, 1.25]", "augment", "scale", (0.8, 1.25)),
        ("model.weights=none", "model", "weights", "none"),
        ("model.weights=a=b.pth", "model", "weights", "a=b.pth"),
        ("model.truncate_after=null", "model", "cut_after", None),
        ("model.input_px=64,128", "model", "input_px", (64, 128)),
        ("model.input_px=[]", "model", "input_px", ()),
        ("data.bands=B02,B03", "data", "bands", ("B02", "B03")),
        ("data.bands=", "data", "bands", None),
        ("data.root=2024-01-01", "data", "root", "2024-01-01"),
        ("data.root=12:30", "data", "root", "12:30"),
        ("data.root=007", "data", "root", "007"),
        ("data.root=yes", "data", "root", "yes"),
        ("data.root=C: #1 [x", "data", "root", "C: #1 [x"),
        ("data.colours.Forest=#00ff00", "data", "colours", {"Forest": "#00ff00"}),
        ("probe.views=4", "probe", "views", 4),
        ("probe.semi_supervised=none", "probe", "unlabelled", "none"),
    ],
)
def test_an_override_means_what_its_key_holds(stating, text, section, key, value):
    recipe = load(stating("model: {truncate_after: layer2, weights: w.pth}"), [text])
    got = getattr(getattr(recipe, section), key)
    assert got == value
    assert type(got) is type(value)


def test_a_checksum_of_digits_stays_text(stating):
    for digits in ("1" * 64, "1" * 30 + "e" + "2" * 33):
        recipe = load(stating("model: {weights: w.pth}"), [f"model.sha256={digits}"])
        assert recipe.model.sha256 == digits


def test_the_later_override_and_the_command_line_win(stating):
    path = stating("seed: 1\ntrain: {epochs: 3, lr: 0.1}")
    recipe = load(path, ["seed=2", "seed=3", "train.epochs=4"])
    assert (recipe.seed, recipe.train.epochs, recipe.train.lr) == (3, 4, 0.1)


@given(st.floats(min_value=0, max_value=10, exclude_min=True))
def test_any_learning_rate_survives_the_command_line(lr):
    assert load("eurosat_rgb", [f"train.lr={lr!r}"]).train.lr == lr


@given(st.text(min_size=1).filter(lambda text: text not in ("null", "~")))
def test_any_text_survives_the_command_line_and_the_saved_recipe(text):
    recipe = load("eurosat_rgb", [f"data.root={text}", f"title={text}"])
    assert recipe.data.root == text
    assert yaml.parse(dump(recipe)) == (recipe.model_dump(mode="json"), [])


def test_a_saved_recipe_loads_equal(stating):
    text = """
    title: "1e-3"
    data:
      custom_sensor: {bands: [{name: a, wavelength_nm: 500}, {name: "010"}], scale: 1e-4}
      colours: {"no": "#00ff00", "1": "#123456"}
    split: {shots: 5, repeats: 3}
    train: {lr: 1e-5}
    """
    recipe = load(stating(text))
    assert recipe.data.custom_sensor.scale == 1e-4
    again = load(stating(dump(recipe), "recipe.yaml"))
    assert again == recipe
    assert dump(again) == dump(recipe)


def test_a_saved_recipe_states_every_key():
    stated = yaml.parse(dump(Recipe()))[0]
    assert stated == json.loads(Recipe().model_dump_json())
    assert stated["train"]["epochs"] == 40


# --- what other keys imply


def test_shots_mean_the_shots_method_in_the_file_and_on_the_command_line(stating):
    assert load(stating("split: {shots: 5}")).split.method == "shots"
    assert load(stating(""), ["split.shots=5"]).split.method == "shots"
    assert load(stating("split: {method: column}"), ["split.shots=5"]).split.method == "shots"


@pytest.mark.parametrize("method", ["blocks", "group", "scene"])
def test_shots_never_make_a_spatial_split_a_random_one(stating, method):
    for made in (
        load(stating(f"split: {{method: {method}}}"), ["split.shots=5"]),
        load(stating(f"split: {{method: {method}, shots: 5}}")),
        load(stating(""), [f"split.method={method}", "split.shots=5"]),
    ):
        assert (made.split.method, made.split.shots) == (method, 5)


def test_what_another_method_cannot_use_of_the_file_is_dropped(stating):
    held = stating("split: {method: blocks, block_m: 500, kfold: 5}")
    assert load(held, ["split.method=group"]).split.block_m is None
    assert load(held, ["split.method=stratified"]).split.kfold is None
    draws = stating("split: {method: group, repeats: 20}")
    assert load(draws, ["split.kfold=4"]).split.kfold == 4  # folds are the draws


def test_another_method_on_the_command_line_drops_the_files_shots(stating):
    split = load(stating("split: {shots: 5}"), ["split.method=stratified"]).split
    assert (split.method, split.shots) == ("stratified", None)


def test_a_custom_sensor_is_named_custom(stating):
    path = stating("data: {custom_sensor: {bands: [{name: a}]}}")
    assert load(path).data.sensor == "custom"
    assert (
        "command line: data.sensor: given rgb; allowed: custom where"
        in faults_of(path, ["data.sensor=rgb"])[0]
    )


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("split: {method: shots}", "split.shots", "given null with split.method shots"),
        ("split: {method: column, shots: 5}", "split.shots", "given 5 with split.method column"),
        ("split: {block_m: 500}", "split.block_m", "given 500 with split.method stratified"),
        ("split: {shots: 5, kfold: 3}", "split.kfold", "given 3 with split.method shots"),
        ("split: {buffer_m: 1.0}", "split.buffer_m", "given 1.0 with split.method stratified"),
        (
            "split: {method: group, kfold: 3, repeats: 5}",
            "split.repeats",
            "given 5 with split.kfold 3, whose folds are the repeats",
        ),
        ("evaluate: {random_split: true}", "evaluate.random_split", "given true with split.method"),
        ("strategy: scratch\nmodel: {weights: w.pth}", "model.weights", "strategy scratch"),
        (f"model: {{sha256: '{'a' * 64}'}}", "model.sha256", "model.weights none"),
        ("model: {normalise: weights}", "model.normalise", "model.weights none"),
        ("strategy: full\nmodel: {freeze_until: layer1}", "model.freeze_until", "freezes nothing"),
        ("augment: {scale: [2, 1]}", "augment.scale", "smaller factor first"),
        ("data: {sensor: custom}", "data.sensor", "only there"),
    ],
)
def test_keys_that_contradict_each_other_are_a_fault(stating, text, key, says):
    path = stating(text)
    (fault,) = faults_of(path)
    assert fault.startswith(f"{path}: {key}: given ")
    assert says in fault
    assert "allowed: " in fault


def test_a_recipe_built_in_python_is_held_to_the_same_rules():
    with pytest.raises(ValueError, match=r"model\.weights: given w\.pth with strategy scratch"):
        Recipe(strategy="scratch", model={"weights": "w.pth"})


# --- faults


def test_all_faults_are_reported_at_once_one_a_line(stating):
    path = stating(
        """
        seed: -1
        split: {shot: 5, repeats: many, method: shot}
        train: {lr: 0, lr: 100}
        augment: {scale: [0, 1, 2]}
        strategy: scratch
        model: {weights: w.pth}
        """
    )
    faults = faults_of(path, ["epochs=5", "train.batch_size", "probe.views=3"])
    expected = [
        f"{path}: line 4: key train.lr is given twice; keep one",
        "command line: epochs: given 5, but there is no such key; did you mean 'train.epochs'?",
        "command line: train.batch_size: no '='; allowed: key=value, such as split.shots=10",
        f"{path}: seed: given -1; allowed: an integer, at least 0, below 4294967296",
        f"{path}: split.shot: given 5, but there is no such key; did you mean 'split.shots'?",
        f"{path}: split.repeats: given many; allowed: an integer, at least 1, at most 1000",
        f"{path}: split.method: given shot; allowed: one of shots, stratified, column, group, "
        "blocks, scene; did you mean 'shots'?",
        f"{path}: train.lr: given 100; allowed: a number, above 0, at most 10",
        "command line: probe.views: given 3; allowed: one of 1, 2, 4, 8",
        f"{path}: model.weights: given w.pth with strategy scratch; allowed: none, or another "
        "strategy",
    ]
    assert set(expected) <= set(faults)
    scale = [fault for fault in faults if "augment.scale" in fault]
    assert len(faults) == len(expected) + len(scale)
    assert scale


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b", 'given ["a", "b"]; allowed: keys with values'),
        ("just text", "given just text; allowed: keys with values"),
        ("data: [1", "line 1: not valid YAML"),
        ("a: 1\n b: 2", "line 2: not valid YAML"),
        ("seed: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("seed: 1\n---\nseed: 2", "not valid YAML"),
        ("seed: !!int x", "not valid YAML"),
        ("data: 3", "data: given 3; allowed: keys with values"),
        ("seed: 1.0", "seed: given 1.0; allowed: an integer"),
        ("seed: true", "seed: given true; allowed: an integer"),
        ("seed: '1'", "seed: given 1; allowed: an integer"),
        ("seed: null", "seed: given null; allowed: an integer"),
        ("train: {lr: .nan}", "train.lr: given NaN; allowed: a number"),
        ("train: {lr: .inf}", "train.lr: given Infinity; allowed: a number"),
        ("augment: {flips: 1}", "augment.flips: given 1; allowed: true or false"),
        ("probe: {views: true}", "probe.views: given true; allowed: one of 1, 2, 4, 8"),
        ("data: {bands: B02}", "data.bands: given B02; allowed: a list, each text"),
        ("data: {bands: [B02, 3]}", "data.bands.1: given 3; allowed: text"),
        ("data: {root: 2024}", "data.root: given 2024; allowed: text, not empty, or null"),
        ("data: {root: ''}", 'data.root: given ""; allowed: text'),
        ("data: {colours: {a: red}}", "data.colours.a: given red; allowed: text, matching ^#"),
        ("data: {colours: {1: '#000000'}}", "data.colours.1: given as a key; allowed: text"),
        ("data: {custom_sensor: {bands: []}}", "bands: given []; allowed: a list"),
        ("data: {custom_sensor: {bands: [{}]}}", "data.custom_sensor.bands.0.name: missing"),
        ("1: 2", "1: given as a key"),
        ("name: ../x", "name: given ../x; allowed: text, matching"),
        ("title: [a]", 'title: given ["a"]; allowed: text'),
        ("probe: {penalties: [1, 0]}", "probe.penalties.1: given 0; allowed: a number, above 0"),
        ("probe: {penalties: []}", "probe.penalties: given []; allowed: a list"),
        ("model: &m {feature_stages: *m}", "model.feature_stages: given {'stages'"),
        ("modle: {weights: a}", "did you mean 'model'?"),
        ("shots: 10", "shots: given 10, but there is no such key; did you mean 'split.shots'?"),
        ("split: {zzzzzz: 1}", "allowed: split.method, split.shots, split.repeats"),
    ],
)
def test_what_a_file_can_get_wrong_is_one_line(stating, text, says):
    path = stating(text)
    (fault,) = faults_of(path)
    assert fault.startswith(f"{path}: ")
    assert says in fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed", "no '='"),
        ("=1", "there is no such key"),
        ("train.lrr=1", "did you mean 'train.lr'?"),
        ("train.lr.x=1", "train.lr holds no further keys"),
        ("train=3", "train: given 3; allowed: keys with values"),
        ("data.bands=[B02", "data.bands: line 1: not valid YAML"),
        ("data={root: a, root: b}", "data: line 1: key root is given twice"),
        ("train.epochs=ten", "train.epochs: given ten; allowed: an integer, at least 1"),
        ("train.epochs=010", "train.epochs: given 010; allowed: an integer"),
        ("model.weights=null", "model.weights: given null; allowed: text"),
        ("strategy=finetun", "did you mean 'finetune'?"),
    ],
)
def test_what_an_override_can_get_wrong_is_one_line(stating, text, says):
    (fault,) = faults_of(stating(""), [text])
    assert fault.startswith("command line: ")
    assert says in fault


def test_an_override_does_not_hide_a_fault_of_the_file(stating):
    (fault,) = faults_of(stating("data: 3"), ["data.root=x"])
    assert "data: given 3" in fault


def test_a_missing_file_and_a_wrong_override_are_told_together(tmp_path):
    missing, wrong = faults_of(tmp_path / "none.yaml", ["sed=1"])
    assert "no such file" in missing
    assert "did you mean 'seed'?" in wrong


def test_an_unknown_name_is_answered_with_the_nearest():
    (fault,) = faults_of("eurosat_rbg")
    assert "did you mean 'eurosat_rgb'?" in fault


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    assert "not UTF-8 text" in faults_of(path)[0]
    path.write_bytes(b"seed: \x00")
    assert "not valid YAML" in faults_of(path)[0]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=4,
    ),
    st.sampled_from(["seed", "data", "train", "split", "model", "strategy", "zzz"]),
)
def test_no_value_brings_down_the_check(value, key):
    recipe, faults = module._check({"name": "x", key: value})
    assert (recipe is None) == bool(faults)
    assert all(fault and "\n" not in fault for _, fault in faults)


# --- finding recipes and sample tiles


def test_a_recipe_in_the_working_folder_comes_before_the_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "deep").mkdir(parents=True)
    (tmp_path / "recipes" / "ucmerced.yaml").write_text("title: mine")
    (tmp_path / "recipes" / "deep" / "own.yaml").write_text("title: deep")
    (tmp_path / "recipes" / "broken.yaml").write_text("title: [")
    assert load("ucmerced").title == "mine"
    assert load("deep/own").title == "deep"
    assert "eurosat_rgb" in available()
    assert titles()["ucmerced"] == "mine"
    assert titles()["broken"].startswith("(line 1: not valid YAML")


def test_recipes_and_tiles_are_found_inside_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "geotl"
    for folder in (package / "recipes", package / "sample_tiles" / "target"):
        folder.mkdir(parents=True)
    (package / "recipes" / "one.yaml").write_text("title: one")
    stranger = tmp_path / "site-packages" / "recipes"
    stranger.mkdir()
    (stranger / "two.yaml").write_text("title: of another project")
    monkeypatch.setattr(geotl, "__file__", str(package / "__init__.py"))
    assert list(module.shipped()) == ["one"]
    assert resolve_root("sample:target") == package / "sample_tiles" / "target"


def test_the_sample_tiles_are_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "geotl").mkdir()
    (tmp_path / "sample_tiles" / "source").mkdir(parents=True)
    monkeypatch.setattr(geotl, "__file__", str(tmp_path / "geotl" / "__init__.py"))
    assert resolve_root("sample:source") == tmp_path / "sample_tiles" / "source"
    with pytest.raises(RecipeError, match="did you mean 'source'"):
        resolve_root("sample:sorce")
    with pytest.raises(RecipeError, match="no such sample tiles"):
        resolve_root("sample:../geotl")


def test_a_root_is_relative_to_the_working_folder_or_to_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    assert resolve_root("~/tiles") == Path("/home/anna/tiles")
    assert resolve_root("tiles") == Path("tiles")
    assert resolve_weights("~/w.pth") == "/home/anna/w.pth"
    assert resolve_weights("none") == "none"
    with pytest.raises(GeoTLError, match=r"data\.root=FOLDER"):
        resolve_root(None)


# --- schema and reference


def every_property(node):
    for name, child in node.get("properties", {}).items():
        yield name, child, name in node.get("required", ())
    for below in node.get("$defs", {}).values():
        yield from every_property(below)


def test_the_schema_is_a_json_schema_with_descriptions_and_defaults():
    jsonschema.Draft202012Validator.check_schema(schema())
    properties = list(every_property(schema()))
    assert len(properties) > 60
    assert [name for name, node, _ in properties if not node.get("description")] == []
    assert {name for name, node, needed in properties if "default" not in node} == {
        name for name, _, needed in properties if needed
    }


def test_the_schema_accepts_the_defaults_and_refuses_the_unknown():
    jsonschema.validate(yaml.parse(written_text(Recipe()))[0], schema())
    with pytest.raises(jsonschema.ValidationError, match="shot"):
        jsonschema.validate({"split": {"shot": 1}}, schema())


def test_the_schema_names_a_section_after_its_key_whatever_its_class():
    assert type(Recipe().split).__name__ == "SplitSection"
    assert type(Recipe().augment).__name__ == "Augmentation"
    sections = {
        key: node["$ref"].removeprefix("#/$defs/")
        for key, node in schema()["properties"].items()
        if "$ref" in node
    }
    assert sections == {key: key.capitalize() for key in sections}
    assert list(schema()["$defs"]) == sorted(
        {*sections.values(), "CustomBand", "CustomSensor", "StatedSensor"}
    )
    assert all(node["title"] == name for name, node in schema()["$defs"].items())


def test_changing_the_schema_handed_out_changes_nothing():
    schema()["properties"].clear()
    assert "seed" in schema()["properties"]


def test_every_number_has_a_unit_or_is_a_count_of_nothing():
    unitless = {"seed", "probe.penalties", "train.l2", "augment.mixup", "augment.cutmix"}
    unitless |= {"decoder.unlabelled_weight"}
    rows = [row.split(" | ") for row in reference().splitlines() if row.startswith("| `")]
    assert len(rows) > 55
    for key, _, unit, allowed, _ in rows:
        number = ("integer" in allowed or "number" in allowed) and "one of" not in allowed
        assert number == (unit != "–") or key.strip("| `") in unitless | {"probe.views"}


def test_the_reference_in_docs_is_up_to_date():
    written = (ROOT / "docs" / "RECIPES.md").read_text(encoding="utf-8")
    assert written == reference(), (
        "write it again: from geotl.experiments.recipe import reference; print(reference(), end='')"
    )


@pytest.mark.parametrize("words", [["recipe", "schema"], ["recipe", "list"], ["recipe", "--help"]])
def test_a_pipe_that_nobody_reads_is_no_fault(words):
    unread, written = os.pipe()
    os.close(unread)
    done = subprocess.run(
        [sys.executable, "-m", "geotl", *words], stdout=written, stderr=subprocess.PIPE, check=False
    )
    os.close(written)
    assert done.stderr == b""
    assert done.returncode in {0, 141}  # argparse swallows the fault of a help text


def test_check_finds_names_that_nothing_has(capsys) -> None:
    """Red before: a misspelt sensor passed, and the run stopped at it."""
    check = ["recipe", "check", "sample_pixels"]
    wrong = ["data.sensor=sentinel2_l2x", "data.bands=B02,B99", "model.backbone=resnet81"]
    for setting, meant in zip(wrong, ("sentinel2_l2a", "B09", "resnet18"), strict=True):
        assert main([*check, setting]) == 2
        assert f"did you mean {meant!r}" in capsys.readouterr().err
    assert main([*check, wrong[0], wrong[2]]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "data.sensor: " in told[0]
    assert told[1].startswith("model.backbone: ")
    assert main([*check, "model.backbone=none"]) == 0
