"""Which tiles there are: class folders, the table beside them, and folders that cannot be used."""

import hashlib

import numpy as np
import pytest

from geotl.data.tiles import index_folder, list_images
from geotl.errors import DataError


def folder(root, names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"tile %d" % i)
    return root


NAMES = ["water/b.tif", "water/A.TIFF", "forest/1.jpg", "forest/2.JPEG", "forest/3.PNG"]


def test_class_folders_become_labels_in_the_order_of_their_names(tmp_path):
    index = index_folder(folder(tmp_path, NAMES))
    assert index.classes == ("forest", "water")
    assert index.names == (
        "forest/1.jpg",
        "forest/2.JPEG",
        "forest/3.PNG",
        "water/A.TIFF",
        "water/b.tif",
    )
    np.testing.assert_array_equal(index.labels, [0, 0, 0, 1, 1])
    assert index.labels.dtype == np.int64
    assert len(index) == 5
    assert all(tile.path.is_absolute() for tile in index.tiles)
    assert index.contents[0] == hashlib.sha256(b"tile 2").hexdigest()
    assert {(tile.split, tile.group) for tile in index.tiles} == {(None, None)}


def test_hidden_and_other_files_and_folders_are_left_alone(tmp_path):
    folder(tmp_path, NAMES)
    expected = index_folder(tmp_path).names
    folder(tmp_path, [".cache/x.tif", "water/.hidden.tif", "water/b.tif.aux.xml", "readme.txt"])
    (tmp_path / "water" / "folder.tif").mkdir()
    assert index_folder(tmp_path).names == expected


def test_classes_may_be_chosen_and_ordered(tmp_path):
    folder(tmp_path, [*NAMES, "urban/1.png"])
    index = index_folder(tmp_path, classes=["water", "forest"])
    assert index.classes == ("water", "forest")
    assert dict(zip(index.names, index.labels, strict=True))["water/b.tif"] == 0
    with pytest.raises(DataError, match="did you mean 'forest'"):
        index_folder(tmp_path, classes=["forrest", "water"])
    with pytest.raises(DataError, match="named twice"):
        index_folder(tmp_path, classes=["water", "water"])


def test_a_relative_root_gives_absolute_paths(tmp_path, monkeypatch):
    folder(tmp_path / "tiles", NAMES)
    monkeypatch.chdir(tmp_path)
    assert index_folder("tiles") == index_folder(tmp_path / "tiles")


@pytest.mark.parametrize("comma", [",", ";"])
def test_the_table_gives_sides_and_groups(tmp_path, comma):
    folder(tmp_path, NAMES)
    rows = [
        "path,split,group",
        "water/b.tif,test,north",
        "forest/1.jpg,train,",
        "./forest/2.JPEG,,s",
    ]
    text = "\n".join(rows).replace(",", comma)
    (tmp_path / "tiles.csv").write_text("\ufeff" + text, encoding="utf-8")
    told = {tile.path.name: (tile.split, tile.group) for tile in index_folder(tmp_path).tiles}
    assert told == {
        "1.jpg": ("train", None),
        "2.JPEG": (None, "s"),
        "3.PNG": (None, None),
        "A.TIFF": (None, None),
        "b.tif": ("test", "north"),
    }


def test_a_table_with_one_extra_column_is_enough(tmp_path):
    folder(tmp_path, NAMES)
    (tmp_path / "regions.csv").write_text("group,path\nnorth,water/b.tif\n")
    index = index_folder(tmp_path, table="regions.csv")
    assert [tile.group for tile in index.tiles] == [None] * 4 + ["north"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,split\nwater/bb.tif,test\n", r"line 2 names 'water/bb.tif'.*did you mean"),
        ("file,split\nwater/b.tif,test\n", r"no column 'path'.*the first line must name"),
        ("path\nwater/b.tif\nwater/b.tif\n", r"line 3 names 'water/b.tif' again"),
        ("", r"no column 'path'"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error_that_names_it(tmp_path, text, said):
    folder(tmp_path, NAMES)
    (tmp_path / "tiles.csv").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        index_folder(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "tiles.csv"))
    assert "\n" not in str(caught.value)


def test_a_table_in_another_encoding_or_asked_for_and_missing_is_an_error(tmp_path):
    folder(tmp_path, NAMES)
    with pytest.raises(DataError, match="no such table"):
        index_folder(tmp_path, table="other.csv")
    (tmp_path / "tiles.csv").write_bytes("path,group\nwater/b.tif,forêt\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        index_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no class folders"),
        (["a.tif", "b.tif"], "no class folders"),
        (["water/a.tif"], r"one class only \(water\)"),
        (["water/a.tif", "forest/readme.txt"], r"forest: no tiles in this class folder"),
        (["train/water/a.tif", "test/water/b.tif"], r"contains folders, not tiles.*set data.root"),
    ],
)
def test_folders_that_cannot_be_used_are_named_with_the_remedy(tmp_path, names, said):
    with pytest.raises(DataError, match=said) as caught:
        index_folder(folder(tmp_path, names))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


NESTED = ["forest/broad leaved/1.tif", "forest/conifers/1.tif", "eau & glace/lac/1.tif"]


def test_class_folders_may_nest_as_deep_as_told(tmp_path):
    index = index_folder(folder(tmp_path, NESTED), class_depth=2)
    assert index.classes == ("eau & glace/lac", "forest/broad leaved", "forest/conifers")
    assert index.names == tuple(sorted(NESTED))
    np.testing.assert_array_equal(index.labels, [0, 1, 2])
    chosen = index_folder(tmp_path, class_depth=2, classes=["forest/conifers", "eau & glace/lac"])
    assert chosen.classes == ("forest/conifers", "eau & glace/lac")


@pytest.mark.parametrize(
    ("more", "depth", "said"),
    [
        ([], 1, r"contains folders, not tiles.*data\.class_depth=2"),
        (["forest/5.tif"], 2, "forest: has tiles above that level"),
        (["water/5.tif"], 2, "water: has no folders"),
        ([], 3, "has no folders|has tiles"),
        (["forest/conifers/old/1.tif", "forest/mixed/old/2.tif"], 2, r"class_depth=3"),
    ],
)
def test_folders_of_another_depth_are_named_with_the_remedy(tmp_path, more, depth, said):
    with pytest.raises(DataError, match=said) as caught:
        index_folder(folder(tmp_path, [*NESTED, *more]), class_depth=depth)
    assert "\n" not in str(caught.value)


def test_a_class_is_called_alike_however_the_file_system_holds_its_accents(tmp_path):
    composed, apart = "for\xeat", "fore\u0302t"
    index = index_folder(folder(tmp_path, [f"{apart}/1.tif", "eau/1.tif"]))
    assert index.classes == ("eau", composed)
    assert index.tiles[1].path.exists()
    with pytest.raises(DataError, match="two folders of one class name"):
        index_folder(folder(tmp_path, [f"{composed}/1.tif"]))


def test_a_missing_root_or_a_file_for_a_root_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for name, fault in (("missing", "no such folder"), ("file", "a file")):
        with pytest.raises(DataError, match=rf"{fault}; set data\.root"):
            index_folder(tmp_path / name)


def test_images_are_listed_from_files_and_folders_each_once(tmp_path):
    folder(tmp_path, [*NAMES, "deep/er/x.png", "deep/.h/y.png", "scene.jp2"])
    given = [tmp_path / "deep", tmp_path / "scene.jp2", tmp_path, str(tmp_path / "scene.jp2")]
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(given)]
    assert found == ["deep/er/x.png", "scene.jp2", *index_folder_order()]


def index_folder_order():
    return ["forest/1.jpg", "forest/2.JPEG", "forest/3.PNG", "water/A.TIFF", "water/b.tif"]


def test_nothing_to_predict_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        list_images([tmp_path / "missing"])
    with pytest.raises(DataError, match="no image in this folder"):
        list_images([tmp_path])


@pytest.mark.real_data
def test_the_real_folders_hold_what_their_readme_says(real_data):
    aerial = index_folder(real_data / "ucmerced")
    assert (len(aerial), len(aerial.classes)) == (336, 21)
    assert set(np.bincount(aerial.labels)) == {16}
    eurosat = index_folder(real_data / "eurosat_rgb")
    assert (len(eurosat), len(eurosat.classes)) == (1350, 10)
