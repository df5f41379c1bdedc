"""Make the chapters' notebooks from the lecture's recipes: titles, claims, and a cell for each.

python docs/notebooks/make_notebooks.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from geotl.io.files import write_text
from geotl.lecture.recipes import PARTS, LectureRecipe, load_lecture
from geotl.lecture.run import in_order

HERE = Path(__file__).resolve().parent
IMPORT = "from geotl.lecture.notebook import play"
PLAY_FR = (
    "Chaque cellule montre une démonstration. Avec ipywidgets un curseur change un nombre ; sans "
    'lui, écrivez le nombre : `play("dropout_masks", p=0.5)`.'
)
PLAY_EN = (
    "Each cell shows a demonstration. With ipywidgets a slider changes a number; without it, write "
    'the number: `play("dropout_masks", p=0.5)`.'
)


def chapter(part: str) -> NotebookNode:
    """The unexecuted notebook of a part of the lecture; its cells' ids are their numbers."""
    cells = [
        ("markdown", f"# {PARTS[part]}\n\n{PLAY_FR}\n\n*{PLAY_EN}*"),
        ("code", IMPORT),
        *(cell for name in in_order() for cell in demonstration(name, part)),
    ]
    make = {"markdown": new_markdown_cell, "code": new_code_cell}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(
        cells=[make[kind](text, id=f"cell-{n:02}") for n, (kind, text) in enumerate(cells, 1)],
        metadata={"kernelspec": kernel, "language_info": {"name": "python"}},
    )


def demonstration(name: str, part: str) -> Iterator[tuple[str, str]]:
    """The two cells of a demonstration, if it is of this part."""
    _, recipe, _ = load_lecture(name)
    if recipe.part == part:
        yield "markdown", about(recipe)
        yield "code", f'play("{name}")'


def about(recipe: LectureRecipe) -> str:
    """Title, design, claims and note of a recipe in Markdown, French first."""
    texts = [f"## {recipe.title.fr}\n\n*{recipe.title.en}*"]
    texts += [f"{text.fr}\n\n*{text.en}*" for text in (recipe.design,) if text]
    texts.append("\n".join(f"- {one.fr} *{one.en}*" for one in recipe.claims.values()))
    texts += [f"Remarque : {text.fr}\n\n*Note: {text.en}*" for text in (recipe.note,) if text]
    return "\n\n".join(texts)


def main() -> None:
    """Write a notebook for each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the notebooks")
    out = parser.parse_args().out
    for part in PARTS:
        book = chapter(part)
        nbformat.validate(book)
        write_text(out / f"{part}.ipynb", nbformat.writes(book) + "\n")


if __name__ == "__main__":
    main()
