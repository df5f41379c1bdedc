"""The files of a scene: images of bands, mask and metadata, wherever the product has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from geotl.errors import DataError
from geotl.imagery.band_files import images_in
from geotl.imagery.products import Claim, claim_in, claim_of

_METADATA = ("MTD_MSI*.xml", "*_MTL.txt")
_ABOVE = 4  # folders between a band's file and its SAFE


def scene_folder(path: Path) -> tuple[Path, list[Path]]:
    """The folder that holds a scene, and the images in which its bands may be.

    A folder with nothing but one sub-folder stands for that one. In a Sentinel-2 product they
    lie in GRANULE/*/IMG_DATA, there (L2A) again in R10m, R20m and R60m.

    Raises:
        DataError: no images, or a product of several granules.
    """
    granules = sorted(p for p in path.glob("GRANULE/*") if (p / "IMG_DATA").is_dir())
    if len(granules) > 1:
        raise DataError(
            f"{path}: holds {len(granules)} granules ({_listed(granules)}); give the folder of one"
        )
    inner = granules[0] / "IMG_DATA" if granules else path / "IMG_DATA"
    inside = inner if inner.is_dir() else path
    images = [p for folder in (inside, *sorted(inside.glob("R*m"))) for p in images_of(folder)]
    if images:
        return path, images
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) == 1:
        return scene_folder(folders[0])
    held = f"folders ({_listed(folders)}): give one of them" if folders else "none: check the path"
    raise DataError(f"{path}: no images of bands in this folder, but {held}")


def images_of(folder: Path) -> list[Path]:
    """The image files in a folder; none in what is no folder."""
    return images_in(folder) if folder.is_dir() else []


def beside(path: Path) -> list[Path]:
    """Images whose names go on from that of a file: scene_SCL.tif beside scene.tif."""
    return [
        p for p in images_in(path.parent) if p.stem.startswith((f"{path.stem}_", f"{path.stem}-"))
    ]


def claim(folder: Path, images: Sequence[Path]) -> Claim | None:
    """What a folder's product says of itself: in its metadata, else in its names."""
    above = [folder, *folder.absolute().parents[:_ABOVE]]
    root = next((p for p in above if p.suffix.lower() == ".safe"), folder)
    files = [p for pattern in _METADATA for p in sorted(root.glob(pattern))]
    return claim_in(files) or claim_of(_names(root, images))


def _names(root: Path, images: Iterable[Path]) -> list[str]:
    return [root.absolute().name, *(path.stem for path in images)]


def _listed(paths: Sequence[Path], most: int = 5) -> str:
    return ", ".join(p.name for p in paths[:most]) + ", ..." * (len(paths) > most)
