"""Commands on labels and tiles: check, chips, suggest; heavy imports wait inside."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.cli.map import add_extra, add_mask
from geotl.cli.outputs import add_language, add_output, one_writer
from geotl.console import silent
from geotl.errors import DataError, OutputError, SettingError
from geotl.io.files import given_path

if TYPE_CHECKING:
    from geotl.experiments.recipe import Recipe
    from geotl.experiments.samples import TileSamples


def add_chips(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl chips` to the commands."""
    chips = commands.add_parser(
        "chips",
        parents=[common],
        help="cut labelled chips (tiles) out of scenes",
        description="Write chips and a manifest: geotl chips SCENE.tif LABELS.gpkg -o FOLDER",
    )
    chips.add_argument(
        "scenes", nargs="+", type=Path, metavar="SCENE", help="image files or folders of band files"
    )
    chips.add_argument(
        "labels",
        type=Path,
        metavar="LABELS",
        help="points or polygons in any vector format, a CSV of coordinates, or a class raster",
    )
    add_output(chips, "FOLDER", "folder for the chips and their manifest", required=True)
    chips.add_argument("--overwrite", action="store_true", help="replace earlier chips there")
    _what_labels_say(chips)
    _what_chips_are(chips)
    chips.add_argument(
        "--sensor", default="rgb", help="sensor of the scenes: geotl sensors (default: rgb)"
    )
    chips.add_argument(
        "--bands", nargs="+", help="bands to write, in order (default: all of the sensor's)"
    )
    add_mask(chips)
    chips.set_defaults(command=_chips)


def _what_labels_say(chips: argparse.ArgumentParser) -> None:
    chips.add_argument("--field", default="class", help="field with the class (default: class)")
    chips.add_argument("--layer", help="layer of the labels' file (default: its only layer)")
    chips.add_argument("--id-field", help="field with an id (default: the file's own numbers)")
    chips.add_argument("--crs", help="reference system of the labels (default: their file's)")
    chips.add_argument(
        "--rename",
        nargs="+",
        default=[],
        action="extend",
        metavar="old=new",
        help="rename or join classes; old= drops one, *= drops all that are not listed (default: "
        "as in the file)",
    )


def _what_chips_are(chips: argparse.ArgumentParser) -> None:
    chips.add_argument("--chip-px", type=int, default=64, help="side of a chip [px] (default: 64)")
    chips.add_argument(
        "--purity",
        type=float,
        default=0.8,
        help="smallest share of a chip that its class covers [fraction] (default: 0.8)",
    )
    chips.add_argument(
        "--per-polygon",
        type=int,
        metavar="N",
        help="largest number of chips of one polygon (default: all that fit)",
    )
    chips.add_argument(
        "--stride-px",
        type=int,
        metavar="PX",
        help="distance between chips of one polygon [px] (default: a chip's side)",
    )
    chips.add_argument(
        "--min-valid",
        type=float,
        default=0.8,
        help="smallest share of valid pixels in a chip [fraction] (default: 0.8)",
    )
    chips.add_argument(
        "--max-cloud",
        type=float,
        default=0.1,
        help="largest share of cloud in a chip [fraction] (default: 0.1)",
    )
    chips.add_argument(
        "--seed", type=int, default=0, help="seed of the draw for --per-polygon (default: 0)"
    )


def _chips(args: argparse.Namespace) -> None:
    from geotl.console import ProgressLine
    from geotl.data.chip_files import check_folder, write_chips
    from geotl.data.chips import ChipRules, place_chips
    from geotl.data.labels import read_any
    from geotl.imagery.scene import open_scenes
    from geotl.imagery.sensors import get_sensor

    rules = ChipRules(
        args.chip_px,
        args.purity,
        args.per_polygon,
        args.stride_px,
        args.min_valid,
        args.max_cloud,
        args.seed,
    )
    check_folder(args.output, overwrite=args.overwrite)
    mask = None if args.mask == "none" else args.mask
    scenes = open_scenes(args.scenes, get_sensor(args.sensor), args.bands, mask=mask)
    labels = read_any(
        args.labels,
        layer=args.layer,
        field=args.field,
        crs_to=scenes[0].grid.crs,
        id_field=args.id_field,
        mapping=mapping_of(args.rename),
        crs=args.crs,
    )
    with ProgressLine(quiet=args.quiet) as line:
        placement = place_chips(scenes, labels, rules, progress=line.counter("placing chips"))
        manifest = write_chips(
            scenes,
            placement,
            args.output,
            overwrite=args.overwrite,
            progress=line.counter("writing chips"),
        )
    args.log("\n".join([*placement.lost, *placement.notes, *placement.summary()]))
    print(f"written: {manifest}")


def mapping_of(words: list[str]) -> dict[str, str | None]:
    """Old names and new from words such as old=new; None where nothing follows.

    Raises:
        DataError: a word without "=", or an old name given twice.

    >>> mapping_of(["grass=meadow", "water="])
    {'grass': 'meadow', 'water': None}
    """
    mapping: dict[str, str | None] = {}
    for word in words:
        old, sign, new = word.partition("=")
        if not sign or not old.strip() or old.strip() in mapping:
            raise DataError(
                f"--rename: given {word!r}; allowed: old=new, each old name once, old= to drop it"
            )
        mapping[old.strip()] = new.strip() or None
    return mapping


def add_check(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser of all; `common` holds the options that all share."""
    check = commands.add_parser(
        "check",
        parents=[common],
        help="check labelled tiles for faults before training",
        description="Counts, sizes, radiometry, nodata, duplicates, overlaps, label conflicts and "
        "outliers, with remedies: geotl check DATA --sensor sentinel2_l2a -o folder; for class "
        "folders of tiles that hold some of its bands: geotl check DATA --sensor sentinel2_l2a "
        "data.bands=B02,B03,B04,B08",
    )
    check.add_argument(
        "data",
        metavar="DATA",
        help="folder of class folders, manifest (.csv, .geojson), sample:NAME, "
        "torchgeo:NAME:FOLDER, or a recipe's name or YAML file",
    )
    check.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="keys of a recipe to change, such as data.class_depth=2",
    )
    check.add_argument(
        "--sensor", help="sensor of the tiles: geotl sensors (default: rgb, or the recipe's)"
    )
    add_language(check)
    add_output(check, "FOLDER", "folder for check.html, check.json and pictures (default: none)")
    check.add_argument(
        "--per-class",
        type=int,
        default=8,
        metavar="N",
        help="tiles of each class on the contact sheet (default: 8)",
    )
    check.set_defaults(command=_check)


@one_writer
def _check(args: argparse.Namespace) -> None:
    from geotl.console import ProgressLine
    from geotl.data.checks import check_tiles
    from geotl.experiments.named import recipe_sensor
    from geotl.experiments.rules import SPATIAL
    from geotl.experiments.samples import read_samples
    from geotl.reporting.check_report import as_text, verdict, write_check

    recipe = _recipe(args)
    sensor = recipe_sensor(recipe)
    samples = read_samples(recipe, sensor, silent, quiet=args.quiet).real
    if samples.placement is not None:
        placed = samples.placement
        args.log("\n".join((*placed.lost, *placed.notes, *placed.summary())))
    sizes = _sizes(samples, recipe.data.file_bands)
    with ProgressLine(quiet=args.quiet) as line:
        checked = check_tiles(
            samples.index,
            sensor,
            samples.pack,
            sizes=sizes,
            apart=recipe.split.method in SPATIAL,
            progress=line.counter("looking"),
        )
    print(verdict(checked) if args.quiet else as_text(checked))
    if args.output:
        written = write_check(
            args.output,
            checked,
            samples.rgb,
            per_class=args.per_class,
            title=Path(args.data).stem or args.data,
        )
        args.log("\nwritten  " + ", ".join(map(str, written)))


def _sizes(samples: TileSamples, file_bands: Sequence[str] | None) -> list[tuple[int, int]]:
    """Rows and columns of each tile's file; none for chips, which are of one size."""
    from geotl.data.read_tile import check_headers

    if samples.placement is not None:
        return []
    paths = [tile.path for tile in samples.index.tiles]
    infos = check_headers(paths, samples.sensor, samples.pack.bands, file_bands)
    return [(info.grid.height, info.grid.width) for info in infos]


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe named, or one made of the tiles and the sensor named."""
    from geotl.experiments.recipe import load

    sensor = [f"data.sensor={args.sensor}"] if args.sensor else []
    path = given_path(args.data)
    tiles = path.is_dir() or path.suffix.lower() in {".csv", ".geojson", ".json"}
    if tiles or args.data.startswith(("sample:", "torchgeo:")):
        return load(None, [f"data.root={args.data}", *sensor, *args.overrides])
    return load(args.data, [*sensor, *args.overrides])


def add_suggest(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl suggest` to the commands."""
    suggest = commands.add_parser(
        "suggest",
        parents=[common],
        help="propose where to label first, or next",
        description="With a model: uncertain and diverse windows, or pixels, inside its area of "
        "applicability, as points whose field class is to be filled in: geotl suggest MODEL "
        "SCENE.tif -n 50 -o suggestions.gpkg. Without one, before the first label: typical and "
        "diverse pixels by the features of a pretrained network: geotl suggest SCENE.tif --weights "
        "FILE --sensor sentinel2_l2a -n 50 -o first.gpkg; or, for a folder of tiles, a list of "
        "those to label first: -o first.csv",
    )
    _what_is_searched(suggest)
    add_output(suggest, "FILE", "GeoPackage of points (.gpkg), or for tiles a .csv", required=True)
    suggest.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    _what_is_labelled(suggest)
    _which_places(suggest)
    suggest.set_defaults(command=_suggest, overrides=())


def _what_is_searched(suggest: argparse.ArgumentParser) -> None:
    suggest.add_argument(
        "given",
        nargs="+",
        metavar="MODEL SCENE",
        help="a model and scenes (files or folders); with --weights scenes, or a folder of tiles, "
        "alone, and recipe keys such as model.backbone=resnet50 or data.bands=[B02,B03,B04]",
    )
    suggest.add_argument(
        "--weights",
        metavar="FILE",
        help="without a model: weights of the backbone, a file or published name as in "
        "model.weights; for scenes none compares pixels by window statistics (default: take a "
        "model)",
    )
    suggest.add_argument(
        "--sensor",
        help="sensor of the scenes: geotl sensors; needed without a model (default: the model's)",
    )
    add_mask(suggest)
    add_extra(suggest)


def _what_is_labelled(suggest: argparse.ArgumentParser) -> None:
    suggest.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="points or polygons that are labelled already; their area is left out, as is that of "
        "the model's training tiles (default: none)",
    )
    suggest.add_argument("--field", default="class", help="field with their class (default: class)")
    suggest.add_argument("--layer", help="layer of the labels' file (default: its only layer)")


def _which_places(suggest: argparse.ArgumentParser) -> None:
    suggest.add_argument(
        "-n",
        "--points",
        type=int,
        dest="n",
        default=50,
        metavar="POINTS",
        help="number of points or tiles to suggest (default: 50)",
    )
    suggest.add_argument(
        "--stride-px",
        type=int,
        metavar="PX",
        help="distance between candidates [px] (default: a tile's side; for models of pixels so "
        "that there are about 4,000)",
    )
    suggest.add_argument(
        "--by",
        choices=["auto", "typical", "uncertain"],
        default="auto",
        help="with a model: typical places unlike the labelled ones, or uncertain and diverse "
        "ones; auto: typical below 50 labels in all (default: auto)",
    )
    suggest.add_argument(
        "--ignore-applicability",
        action="store_true",
        help="suggest outside the model's area of applicability too",
    )
    suggest.add_argument(
        "--seed", type=int, default=0, help="seed of the order among equals (default: 0)"
    )


@one_writer
def _suggest(args: argparse.Namespace) -> None:
    if args.weights is not None:
        _suggest_first(args)
    elif len(args.given) < 2:
        raise SettingError(
            f"{args.given[0]}: suggest needs a model and a scene; without a model give --weights "
            "FILE, or --weights none for a scene"
        )
    elif args.overrides:
        raise SettingError(
            f"{args.overrides[0]}: a model has its own recipe; recipe keys go with --weights alone"
        )
    else:
        _suggest_next(args)


def _suggest_first(args: argparse.Namespace) -> None:
    """Places or tiles to label first, without any model."""
    from geotl.experiments.first_labels import first_pixels, first_tiles
    from geotl.io.files import check_absent

    suffix = args.output.suffix.lower()
    if suffix not in (".gpkg", ".csv"):
        raise OutputError(
            f"{args.output}: give a name ending in .gpkg for points of scenes, or in .csv for a "
            "list of tiles"
        )
    check_absent(args.output, overwrite=args.overwrite)
    if args.n < 1:
        raise SettingError(f"-n: given {args.n}; allowed: at least 1")
    if suffix == ".csv" and args.weights == "none":
        raise SettingError(
            "--weights: given none; tiles are compared by a network, which needs weights: a file, "
            "or a published name as in model.weights"
        )
    recipe = _first_recipe(args, tiles=suffix == ".csv")
    if suffix == ".csv":
        tiles = first_tiles(recipe, args.n, quiet=args.quiet)
        tiles.write(args.output)
        args.log(tiles.line())
        print(
            f"{len(tiles)} tiles in {args.output}, the most typical first: fill in the column "
            f"label, delete lines that you cannot tell, and train with data.root={args.output}"
        )
        return
    points = first_pixels(recipe, args.n, step_px=args.stride_px, quiet=args.quiet)
    points.write(args.output)
    args.log(points.line())
    print(
        f"{len(points)} points in {args.output}, the most typical first: fill in the field class "
        f"(in QGIS) and train with labels.path={args.output} labels.layer=null"
    )


def _first_recipe(args: argparse.Namespace, *, tiles: bool) -> Recipe:
    """The recipe whose scenes or tiles are looked through."""
    from geotl.experiments.recipe import load

    if args.sensor is None:
        raise SettingError("suggest --weights: which sensor? give --sensor; see geotl sensors")
    keys = [word for word in args.given if "=" in word and not Path(word).exists()]
    paths = [word for word in args.given if word not in keys]
    keys += args.overrides
    if args.ignore_applicability:
        raise SettingError(
            "--ignore-applicability: there is no area of applicability without a model"
        )
    if not paths or (tiles and len(paths) > 1):
        raise SettingError(
            f"suggest --weights: given {len(paths)} paths; give scenes with -o NAME.gpkg, or one "
            "folder of tiles with -o NAME.csv"
        )
    words = [f"data.sensor={args.sensor}", f"model.weights={args.weights}", f"seed={args.seed}"]
    words += ["evaluate.random_weights=false", *keys]
    if tiles:
        return load(None, [*words, f"data.root={paths[0]}"])
    words.append(f"data.mask={'null' if args.mask == 'none' else args.mask}")
    recipe = load(None, words)
    labels = {"path": args.labels, "field": args.field, "layer": args.layer}
    given: dict[str, dict[str, object]] = {
        "data": {"scenes": paths},
        "labels": {} if args.labels is None else labels,
        "pixels": {"extra": [str(path) for path in args.extra or ()]},
    }
    parts = {key: getattr(recipe, key).model_copy(update=own) for key, own in given.items()}
    return recipe.model_copy(update={"task": "pixels", **parts})


def _suggest_next(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.console import ProgressLine
    from geotl.data.labels import read_labels
    from geotl.imagery.sensors import get_sensor
    from geotl.inference.active_learning import SuggestOptions, open_for, suggest
    from geotl.inference.suggestions import check_target, write_suggestions
    from geotl.models.pixel_file import PixelModelFile

    check_target(args.output, overwrite=args.overwrite)
    loaded = load(Path(args.given[0]))
    model = loaded.file if isinstance(loaded.file, PixelModelFile) else loaded.model_file
    sensor = get_sensor(args.sensor) if args.sensor else None
    mask = None if args.mask == "none" else args.mask
    scenes = open_for(
        model, [Path(word) for word in args.given[1:]], sensor=sensor, mask=mask, extra=args.extra
    )
    labels = None
    if args.labels:
        crs = scenes[0].grid.crs
        labels = read_labels(args.labels, layer=args.layer, field=args.field, crs_to=crs)
    with ProgressLine(quiet=args.quiet) as line:
        suggested = suggest(
            model,
            scenes,
            args.n,
            SuggestOptions(args.stride_px, args.ignore_applicability, args.seed, args.by),
            labels=labels,
            progress=line.counter("looking through scenes"),
        )
    write_suggestions(args.output, suggested, overwrite=args.overwrite)
    args.log("\n".join(suggested.lines()))
    side = model.contract.tile_px
    kept = Path(args.given[0]).with_name("recipe.yaml")  # a run folder has it
    how = f"geotl run {kept if kept.is_file() else 'RECIPE'} labels.path={args.labels or 'LABELS'} "
    how += "task=pixels" if side == 1 else f"labels.chip_px={side}"
    print(
        f"{len(suggested)} points in {args.output}: fill in the field class, add them to your "
        f"labels (in QGIS: Merge Vector Layers) and train again: {how}"
    )
