"""A folder to publish: whole, private, run by its own words, and loaded as hubs load models."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import markdown
import numpy as np
import pytest
import shapely
import yaml
from helpers.french import not_french, strict_french
from helpers.map_fixtures import BANDS, CLASSES, PX
from helpers.noted_model import METRICS, RECIPE, SECRETS, noted_model
from helpers.stac_schemas import schema_errors
from helpers.tiles import ROOT

import geotl
from geotl.cli.main import main
from geotl.errors import ModelError
from geotl.evaluation.metrics import wilson
from geotl.export import hub_folder
from geotl.export.graphs import run_onnx
from geotl.export.hub_folder import FILES, Terms, write_hub
from geotl.export.model_card import CardFacts, model_card
from geotl.export.stac_checks import faults
from geotl.hub import HubModel, published
from geotl.io.files import sha256_of
from geotl.models.model_file import load


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return noted_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "published"
    given = ["-o", str(out), "--licence", "CC-BY-4.0"]
    assert main(["export", str(model), "--format", "hub", *given, "-q"]) == 0
    return out


@pytest.fixture
def offline(monkeypatch):
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("socket.socket.connect", refused)


def card_of(folder: Path) -> tuple[dict, str]:
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_folder_holds_what_it_should(folder):
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["published"]
    told = json.loads((folder / "config.json").read_text())
    assert told["classes"] == list(CLASSES)
    assert told["bands"] == list(BANDS)
    assert told["image_size"] == PX
    tracked = (folder / ".gitattributes").read_text()
    assert "*.safetensors filter=lfs" in tracked
    assert "*.onnx filter=lfs" in tracked


def test_nothing_in_it_names_a_folder_of_the_lab_or_of_this_machine(folder, model):
    places = [
        *SECRETS,
        str(ROOT),
        str(Path(sys.prefix)),
        str(model.parent),
        str(folder.parent),
        "site-packages",
        "labels of 2020.gpkg/",
    ]
    assert str(SECRETS[0]).encode() in model.read_bytes()  # so that the test can fail
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [p for p in places if p.encode() in content], path.name
        assert not [p for p in places if json.dumps(p)[1:-1].encode() in content], path.name


def test_its_model_is_the_model(folder, model):
    ours, theirs = load(model), load(folder / "model.safetensors")
    for (name, one), other in zip(
        ours.network.state_dict().items(), theirs.network.state_dict().values(), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=name)
    assert ours.contract == theirs.contract
    assert theirs.notes["metrics"] == ours.notes["metrics"]
    assert theirs.notes["published_from"] == sha256_of(model)
    assert theirs.path.stat().st_mtime == ours.path.stat().st_mtime
    assert "root: tiles" in theirs.notes["recipe"]
    # What is published once is published again unchanged.
    again = hub_folder.shareable_model(theirs)
    assert again.notes == theirs.notes


def test_its_item_is_valid_and_names_every_file(folder, schema_root):
    item = json.loads((folder / "mlm.json").read_text())
    assert list(faults(item, folder)) == []
    assert schema_errors(item, schema_root) == []
    named = {one["href"].removeprefix("./") for one in item["assets"].values()}
    assert named == set(FILES) - {"mlm.json", "config.json", ".gitattributes"}
    assert item["properties"]["license"] == "CC-BY-4.0"


def test_the_example_gives_what_is_expected_in_every_way(folder):
    wanted = json.loads((folder / "example.json").read_text())
    tile = np.load(folder / "example.npy", allow_pickle=False)
    chances, logits = run_onnx(folder / "model.onnx")(tile[None].astype(np.float32))
    held = np.array(list(wanted["logits"].values()))
    np.testing.assert_allclose(logits[0], held, atol=wanted["logits_within"])
    np.testing.assert_allclose(chances[0], list(wanted["probabilities"].values()), atol=1e-5)
    model = geotl.load(folder / "model.safetensors")
    for given in (tile, folder / "example.tif"):
        said = model.predict(given, precision="float32")
        np.testing.assert_allclose(said.probabilities, chances, atol=1e-5)
        assert said.labels == [wanted["class"]]


def test_the_card_runs_as_it_says(folder, tmp_path):
    own = shutil.copytree(folder, tmp_path / "anywhere")
    _, body = card_of(own)
    blocks = re.findall(r"```(bash|python)\n(.*?)```", body, flags=re.S)
    assert [kind for kind, _ in blocks] == ["bash", "python", "python"]
    assert all(len(code.strip().splitlines()) <= 5 for _, code in blocks)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "geotl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m geotl "$@"\n')
    (tools / "geotl").chmod(0o755)
    env = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    wanted = json.loads((own / "example.json").read_text())["class"]
    for kind, code in blocks:
        command = ["bash", "-ec", code] if kind == "bash" else [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=own, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout


def test_the_card_has_the_header_that_hubs_read(folder):
    header, _ = card_of(folder)
    assert header["license"] == "cc-by-4.0"
    assert header["library_name"] == "geotl"
    assert header["pipeline_tag"] == "image-classification"
    assert {"remote-sensing", "onnx", "sentinel-2"} <= set(header["tags"])
    (result,) = header["model-index"][0]["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]} == {
        "accuracy": 0.73,
        "f1": 0.73,
    }
    from huggingface_hub import ModelCard

    read = ModelCard.load(folder / "README.md")
    assert read.data.eval_results[0].metric_value == 0.73
    assert read.data.license == "cc-by-4.0"


def test_the_card_tells_the_truth(folder):
    _, body = card_of(folder)
    page = markdown.markdown(body, extensions=["tables", "fenced_code"])
    text = re.sub(r"<[^>]+>", "", page)
    for word in (
        "spatial: blocked",
        "0.733",
        str(wilson(102, 120)),
        "it overestimates accuracy by that much",
        "field, wet taken for town (9 of 40)",
        "Hardly separated from the others (F1 0.20)",
        "majority class",
        "2017-02-16 to 2017-07-01 (2 days)",
        "15.00° E",
        "resnet18.pth",
        "Imagery and labels it was trained on: not stated; ask",
        "CC-BY-4.0",
        "reflectance = DN × 0.0001",
    ):
        assert word in text or word in body, word
    for name, colour in zip(CLASSES, load(folder / "model.safetensors").contract.colours):  # noqa: B905
        assert f"| {name} | `{colour}`" in body


SECTIONS = {  # of a model's notes: metrics, training and recipe that make other sentences
    "blocks": {"recipe": re.sub("(title|note): .*", r"\1: x", RECIPE)},
    "bare": {"metrics": {}, "weights": {}, "training": {}, "recipe": "title: x\n"},
    "shots": {"recipe": "title: x\nsplit: {method: shots}\nstrategy: finetune\n"},
    "column": {"recipe": "title: x\nsplit: {method: column}\nstrategy: scratch\nnote: y\n"},
    "group": {
        "recipe": "title: x\nsplit: {method: group}\nstrategy: probe_then_finetune\n",
        "metrics": METRICS | {"loses_to_a_baseline": True, "kfold": None},
        "training": {"dates": ["2020-01-01"], "unlabelled": 1200},
    },
    "scene": {
        "recipe": "title: x\nsplit: {method: scene}\nstrategy: full\n",
        "metrics": METRICS
        | {
            "tuning": {"share": 0},
            "optimism": METRICS["optimism"] | {"difference": {"value": 0, "low": -1, "high": 1}},
            "estimate": "Accuracy is estimated by 5 blocked folds; this model was fitted on all 9 "
            "labels.",
            "per_class": {"town": {"precision": 1, "recall": 1, "f1": 1, "support": 3}},
        },
    },
}


@pytest.mark.parametrize("notes", SECTIONS.values(), ids=SECTIONS)
def test_the_card_is_in_french(notes, tmp_path):
    made = load(noted_model(tmp_path / "m.safetensors", **notes))
    files = [(name, 123456, "ab" * 32, what) for name, what in hub_folder.MEANING.items()]
    ground = shapely.box(-15, -52, 15, 52) if "training" not in notes else None
    facts = CardFacts(None, None, ground, 10.0 if ground else None, files, ("field", 0.5))
    _, header, english = model_card(made, facts).split("---\n", 2)
    with strict_french():
        _, own, body = model_card(made, facts).split("---\n", 2)
    assert own == header
    plain = "".join(part for n, part in enumerate(body.split("```")) if n % 2 == 0)
    assert not_french(re.sub(r"`[^`]*`|Machine Learning Model", " ", plain)) == []
    assert "| Classe | Couleur |" in plain
    assert plain.count("\n") == "".join(english.split("```")[::2]).count("\n")


def test_a_split_that_the_recipe_leaves_open_is_named_so(tmp_path):
    """Red before: "held out held out"."""
    made = load(noted_model(tmp_path / "m.safetensors", recipe="title: x\n"))
    card = model_card(made, CardFacts(None, None, None, None, [], ("field", 0.5)))
    assert "held out in a way that is not stated. Brackets" in card


def test_the_language_is_that_of_the_card_alone(folder, model, tmp_path, capsys):
    out = tmp_path / "publié"
    given = ["-o", str(out), "--licence", "CC-BY-4.0", "--lang", "fr", "-q"]
    assert main(["export", str(model), "--format", "hub", *given]) == 0
    assert "## Exactitude" in card_of(out)[1]
    for name in ("config.json", "example.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    bad = ["-o", str(tmp_path / "m.onnx"), "--lang", "fr", "-q"]
    assert main(["export", str(model), "--format", "onnx", *bad]) == 2
    assert "--lang: means nothing to --format onnx" in capsys.readouterr().err


def test_a_model_never_judged_says_so(tmp_path):
    bare = noted_model(
        tmp_path / "m.safetensors", metrics={}, weights={}, training={}, recipe="title: made\n"
    )
    out = write_hub(load(bare), tmp_path / "out", log=lambda _: None)
    header, body = card_of(out)
    assert header["license"] == "unknown"
    assert "model-index" not in header
    for word in ("never tested", "not recorded", "no: random weights", "not stated; ask"):
        assert word in body


def test_a_folder_is_whole_or_not_there(model, folder, tmp_path, monkeypatch, capsys):
    def copied(model, form, path, **options):
        shutil.copyfile(folder / "model.onnx", path)

    def refused(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_folder, "export_graph", copied)
    monkeypatch.setattr(hub_folder, "write_item", refused)
    own = shutil.copytree(folder, tmp_path / "own")
    given = ["export", str(model), "--format", "hub", "--overwrite", "-o"]
    for out in (tmp_path / "new", own):
        assert main([*given, str(out)]) == 2
        assert "No space left on device" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"own"}
    assert {path.name for path in own.iterdir()} == set(FILES)


def test_an_earlier_export_is_replaced_only_when_told(folder, model, tmp_path, monkeypatch, capsys):
    own = shutil.copytree(folder, tmp_path / "own")
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    given = ["export", str(model), "--format", "hub", "-o", str(own)]
    assert main(given) == 2
    assert "--overwrite" in capsys.readouterr().err
    (own / "notes.txt").write_text("mine")
    assert main([*given, "--overwrite"]) == 2
    assert "notes.txt" in capsys.readouterr().err
    (own / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    monkeypatch.setattr(hub_folder, "fill_hub", lambda model, part, *_: (part / "new").touch())
    assert main([*given, "--overwrite"]) == 0
    assert [path.name for path in own.iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"own"}


def test_other_folders_are_never_replaced(model, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"library_name": "transformers"}')
    given = ["export", str(model), "--format", "hub", "--overwrite", "-o"]
    assert main([*given, str(other)]) == 2
    assert "no export to a hub wrote" in capsys.readouterr().err
    assert main([*given, str(model)]) == 2
    assert "is among the inputs" in capsys.readouterr().err
    assert (other / "config.json").read_text() == '{"library_name": "transformers"}'


@pytest.mark.usefixtures("offline")
def test_from_pretrained_reads_a_folder_without_network(folder):
    held = HubModel.from_pretrained(folder)
    assert held.classes == CLASSES
    assert held.bands == BANDS
    said = held.predict(np.load(folder / "example.npy"))
    assert said.labels == [json.loads((folder / "example.json").read_text())["class"]]


@pytest.mark.usefixtures("offline")
def test_save_pretrained_copies_the_published_folder(folder, tmp_path):
    HubModel.from_pretrained(str(folder)).save_pretrained(tmp_path / "copy")
    for name in FILES:
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes(), name
    HubModel.from_pretrained(tmp_path / "copy").save_pretrained(tmp_path / "copy")
    for name in FILES:
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.usefixtures("offline")
def test_save_pretrained_of_a_model_file_writes_the_whole_folder(model, folder, tmp_path):
    published(model).save_pretrained(tmp_path / "made")
    assert {path.name for path in (tmp_path / "made").iterdir()} == set(FILES)
    item = json.loads((tmp_path / "made" / "mlm.json").read_text())
    assert list(faults(item, tmp_path / "made")) == []


@pytest.mark.usefixtures("offline")
def test_what_is_no_published_model_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no such folder"):
        HubModel.from_pretrained(tmp_path / "none")
    with pytest.raises(ModelError, match="no such folder"):
        HubModel.from_pretrained("./none/at/all")
    with pytest.raises(ModelError, match="neither a folder nor a model on the hub"):
        HubModel.from_pretrained("nobody/nothing", local_files_only=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="no such model file"):
        HubModel.from_pretrained(empty)


def test_push_to_hub_uploads_the_folder(folder, monkeypatch):
    from types import SimpleNamespace

    from huggingface_hub import HfApi

    sent: dict[str, object] = {}

    def upload(self, *, repo_id, folder_path, **options):
        sent.update({p.name: p.read_bytes() for p in Path(folder_path).iterdir()})
        return repo_id

    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, repo_id, **_: SimpleNamespace(repo_id=repo_id)
    )
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert HubModel.from_pretrained(folder).push_to_hub("lab/wetlands") == "lab/wetlands"
    assert set(sent) == set(FILES)
    assert sent["README.md"] == (folder / "README.md").read_bytes()


def test_licences_that_are_no_short_words_have_a_name(model):
    from geotl.export.model_card import front_matter

    told = front_matter(load(model), "Terms of the lab")
    assert (told["license"], told["license_name"]) == ("other", "Terms of the lab")
    assert Terms() == Terms(None, None)


def test_the_former_name_of_the_module_still_loads_and_warns(monkeypatch):
    monkeypatch.delitem(sys.modules, "geotl.hubmodel", raising=False)
    with pytest.warns(DeprecationWarning, match=r"geotl\.hubmodel is geotl\.hub now"):
        former = importlib.import_module("geotl.hubmodel")
    assert (former.HubModel, former.published) == (HubModel, published)
