"""The files of `geotl label`'s page: complete, without anything inline, and OpenLayers' version."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.pages import Page

from geotl.labelling import page
from geotl.labelling.page import ASSETS, page_asset, page_html

FOLDER = Path(page.__file__).parent / "assets"
BUNDLE = FOLDER / "bundle"
OWN = sorted(name for name in ASSETS if name.endswith(".js") and name != "ol.js")


def test_the_bundle_is_of_the_version_that_its_package_names() -> None:
    version = json.loads((BUNDLE / "package.json").read_text())["dependencies"]["ol"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    locked = json.loads((BUNDLE / "package-lock.json").read_text())["packages"]
    assert locked["node_modules/ol"]["version"] == version
    assert page_asset("ol.js").startswith(f"// OpenLayers {version};".encode())
    assert f'="{version}"'.encode() in page_asset("ol.js")  # its own constant VERSION
    assert page_asset("ol.css").startswith(f"/* OpenLayers {version};".encode())
    assert f"ol {version} (BSD-2-Clause)" in page_asset("OPENLAYERS-LICENSE.txt").decode()


def test_the_lock_names_versions_and_sums_but_no_registry() -> None:
    text = (BUNDLE / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert '"resolved"' not in text
    assert all("integrity" in one for name, one in packages.items() if name)


def test_every_file_of_the_page_is_served_and_no_other() -> None:
    there = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert there == {*ASSETS}
    for name in ASSETS:
        assert page_asset(name)
    for name in ("bundle/package.json", "../page.py", "templates/label.html", "absent.js"):
        with pytest.raises(KeyError):
            page_asset(name)


def test_what_a_script_imports_is_exported_by_a_file_of_the_page() -> None:
    for name in OWN:
        text = page_asset(name).decode()
        imported = re.findall(r"import \{([^}]*)\} from '\./([\w.]+)'", text)
        assert len(imported) == len(re.findall(r"^import ", text, re.MULTILINE)), name
        for names, file in imported:
            exported = page_asset(file).decode()
            for one in re.findall(r"(\w+)(?: as \w+)?", names):
                pattern = rf"export (async )?(const|function|class) {one}\b"
                if file == "ol.js":
                    pattern = rf"\bas {one}\b"
                assert re.search(pattern, exported), f"{name}: {one} of {file}"


def test_the_page_holds_nothing_inline_and_names_no_other_host() -> None:
    html = Page(page_html("lake"))
    for tag, attributes in html.tags:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "script" or attributes["src"].startswith("assets/")
        for name in ("src", "href"):
            assert ":" not in attributes.get(name, "")
    for name in OWN:
        text = page_asset(name).decode()
        assert not re.search(r"innerHTML|insertAdjacentHTML|outerHTML|\beval\(|new Function", text)
        assert set(re.findall(r"https?://[^'\"\s]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_projects_name_is_escaped() -> None:
    text = page_html("<script>alert(1)</script>")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_no_own_script_is_long() -> None:
    for name in OWN:
        assert len(page_asset(name).decode().splitlines()) <= 500, name
