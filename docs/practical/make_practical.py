"""Make practical.ipynb from practical.py: cells, run from top to bottom, no dates and no paths.

    python docs/practical/make_practical.py [--data FOLDER] [--out FILE]

The folder is that of your MNIST and Fashion-MNIST files; without one the sample tiles are taken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from traitlets.config import Config

from geotl.errors import DataError, GeoTLError
from geotl.io.files import write_text

HERE = Path(__file__).resolve().parent
SOURCE, NOTEBOOK = HERE / "practical.py", HERE / "practical.ipynb"
MARK = "# %%"
SECONDS = 600  # for one cell


def cells(text: str) -> Iterator[tuple[str, str]]:
    r"""The cells of a script in percent format, each as its kind and its source.

    >>> list(cells("# about\n# %% [markdown]\n# # Title\n#\n# words\n\n# %%\nx = 1\n"))
    [('markdown', '# Title\n\nwords'), ('code', 'x = 1')]
    """
    for part in f"\n{text}".split(f"\n{MARK}")[1:]:
        title, _, body = part.partition("\n")
        if title.strip() == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().split("\n")]
            yield "markdown", "\n".join(lines).strip()
        else:
            yield "code", body.strip("\n")


def notebook(text: str) -> NotebookNode:
    """An unexecuted notebook of a script's cells; their ids are their numbers, not drawn ones."""
    make = {"markdown": new_markdown_cell, "code": new_code_cell}
    made = [
        make[kind](source, id=f"cell-{number:02}")
        for number, (kind, source) in enumerate(cells(text), 1)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(
        cells=made, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def executed(book: NotebookNode, *, data: Path | None = None) -> NotebookNode:
    """Run every cell in a kernel of its own; only words and pictures are kept.

    Raises:
        DataError: a cell that fails, or that writes to standard error.
    """
    about, language = dict(book.metadata.kernelspec), dict(book.metadata.language_info)
    with tempfile.TemporaryDirectory() as outputs:
        own = {"GEOTL_PRACTICAL_OUT": outputs, "PYTHONHASHSEED": "0"}
        env = {**os.environ, **own} | ({"GEOTL_MNIST": str(data.resolve())} if data else {})
        client = NotebookClient(
            book,
            config=_private(Path(outputs)),
            kernel_name="python3",
            timeout=SECONDS,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(HERE)}},
        )
        try:
            client.execute(env=env)
        except CellExecutionError as error:
            said = f"a cell failed: {error.ename}: {error.evalue}"
            raise DataError(f"{SOURCE.name}: {said}") from error
        except (CellTimeoutError, DeadKernelError) as error:
            said = " ".join(str(error).split())
            raise DataError(f"{SOURCE.name}: did not run to its end: {said[:200]}") from error
    book.metadata.kernelspec, book.metadata.language_info = about, language
    for cell in book.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", ()):
            _tidy(output)
    return book


def _private(folder: Path) -> Config:
    """Settings by which the kernel is spoken to through sockets in a folder: no port is open."""
    if os.name != "posix":
        return Config()
    return Config(KernelManager={"transport": "ipc", "ip": str(folder / "kernel")})


def _tidy(output: NotebookNode) -> None:
    """Keep a picture without its object's name; let nothing from standard error through."""
    if output.get("name") == "stderr":
        raise DataError(f"{SOURCE.name}: a cell wrote to standard error: {output.text.strip()}")
    if "image/png" in output.get("data", {}):
        output.data.pop("text/plain", None)
        output.metadata.clear()


def main(arguments: list[str] | None = None) -> int:
    """Make the notebook; 0, or 2 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of MNIST and Fashion-MNIST files")
    parser.add_argument("--out", type=Path, default=NOTEBOOK, help="the notebook to write")
    given = parser.parse_args(arguments)
    try:
        book = executed(notebook(SOURCE.read_text(encoding="utf-8")), data=given.data)
        nbformat.validate(book)
        write_text(given.out, nbformat.writes(book) + "\n")
    except GeoTLError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
