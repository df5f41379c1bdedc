"""One field of a GeoPackage filled in, while everything else in the file stays as it is.

A GeoPackage is an SQLite database. Writing it again by GDAL would lose styles, further tables and
types of fields; so the values alone are changed. The triggers that keep the spatial index ask for
functions that GDAL has: they need an answer, but none is used where no geometry changes. Whatever
else a trigger may do ends in its own file: extensions are off, and other files out of reach.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from geotl.errors import DataError
from geotl.io.files import whole_file

_ASKED = ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY")


def filled(content: bytes, path: Path, field: str, values: Mapping[int, str | None]) -> None:
    """Write a GeoPackage of one layer with other values of a text field, whole or not at all.

    Args:
        content: bytes of the GeoPackage.
        path: where the result goes.
        field: name of the field.
        values: by the numbers of the features, None for none; others stay as they are.

    Raises:
        DataError: no such layer or field, or a damaged file.
        OutputError: the folder cannot be written, or the disk is full.
    """
    with whole_file(path) as part:
        part.write_bytes(content)
        try:
            with contextlib.closing(sqlite3.connect(part)) as database:
                _fill(database, field, values)
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{path}: the field {field} could not be filled in ({error})"
            ) from error


def _fill(database: sqlite3.Connection, field: str, values: Mapping[int, str | None]) -> None:
    for name in _ASKED:
        database.create_function(name, 1, lambda _: None, deterministic=True)
    table, key = _layer(database)
    statement = f"UPDATE {_quoted(table)} SET {_quoted(field)} = ? WHERE {_quoted(key)} = ?"
    database.executemany(statement, [(value, number) for number, value in values.items()])
    database.commit()


def _layer(database: sqlite3.Connection) -> tuple[str, str]:
    """Names of the layer's table and of the column with the features' numbers."""
    query = "SELECT table_name FROM gpkg_contents WHERE data_type = 'features'"
    tables = [str(row[0]) for row in database.execute(query)]
    if len(tables) != 1:
        raise sqlite3.DatabaseError(f"{len(tables)} layers, where one is needed")
    columns = database.execute(f"PRAGMA table_info({_quoted(tables[0])})").fetchall()
    return tables[0], next((str(row[1]) for row in columns if row[5]), "rowid")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
