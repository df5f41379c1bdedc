"""`geotl cache`: size of the cache, a check of every byte, and what may go."""

from __future__ import annotations

import argparse
from typing import Any

from geotl.errors import SettingError, UnfinishedError

_DESCRIPTION = (
    "Packed tiles, features and copies of data sets are kept between runs in GEOTL_CACHE (else "
    "~/.cache/geotl). Each is made again where it is missing or damaged, so all may go at any time."
)


def add_cache(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands."""
    parser = commands.add_parser(
        "cache",
        parents=[common],
        help="show, check or prune the files that are kept between runs",
        description=_DESCRIPTION + " Without a further word: where it lies, and its size by kind.",
    )
    parser.set_defaults(command=_show)
    kinds = parser.add_subparsers(metavar="COMMAND", prog="geotl cache")
    check = kinds.add_parser(
        "check",
        parents=[common],
        help="check every byte, and remove damaged entries",
        description="Compare every file of the cache with its checksum. Opening an entry reads "
        "only a sample of large ones; this reads all. What is damaged is taken away and made "
        "again by the next run that needs it. Exit code 1 where something was damaged.",
    )
    check.set_defaults(command=_check)
    prune = kinds.add_parser(
        "prune",
        parents=[common],
        help="remove entries by age or size",
        description="Take entries away by age, by size or both, the longest unused first: "
        "geotl cache prune --older-than 30 --max-size 20",
    )
    prune.add_argument(
        "--older-than",
        type=float,
        metavar="DAYS",
        help="entries not used for so many days (default: any)",
    )
    prune.add_argument(
        "--max-size",
        type=float,
        metavar="GB",
        help="largest size that stays [10^9 bytes] (default: any)",
    )
    prune.add_argument(
        "--dry-run", action="store_true", help="print what would be removed, and remove nothing"
    )
    prune.set_defaults(command=_prune)


def _show(_: argparse.Namespace) -> None:
    from geotl.io.cache import KINDS, entries
    from geotl.io.files import cache_folder

    cached = entries(cache_folder())
    print(f"{cache_folder()}: {_size(sum(entry.size for entry in cached))}")
    for kind, title in KINDS.items():
        sizes = [entry.size for entry in cached if entry.kind == kind]
        if sizes:
            print(f"  {title}: {len(sizes)}, {_size(sum(sizes))}")


def _check(_: argparse.Namespace) -> None:
    from geotl.io.cache import damaged, drop, entries
    from geotl.io.files import cache_folder

    cached = entries(cache_folder())
    faulty = 0
    for entry, fault in damaged(cached):
        drop([entry])
        print(f"{entry.path}: {fault}; taken away")
        faulty += 1
    if faulty:
        raise UnfinishedError(
            f"{faulty} of {len(cached)} entries were not as written; the next run makes them again"
        )
    print(f"{len(cached)} entries, {_size(sum(e.size for e in cached))}: all as they were written")


def _prune(args: argparse.Namespace) -> None:
    from geotl.io.cache import drop, entries, to_prune
    from geotl.io.files import cache_folder

    for option, value in (("--older-than", args.older_than), ("--max-size", args.max_size)):
        if value is not None and not value >= 0:
            raise SettingError(f"{option}: given {value:g}; allowed: 0 or more")
    if args.older_than is None and args.max_size is None:
        raise SettingError("geotl cache prune: give --older-than DAYS, --max-size GB or both")
    most = None if args.max_size is None else args.max_size * 1e9
    gone = to_prune(entries(cache_folder()), older_than_days=args.older_than, max_bytes=most)
    size = sum(entry.size for entry in gone) if args.dry_run else drop(gone)
    print(f"{len(gone)} entries, {_size(size)}{' would go' if args.dry_run else ' taken away'}")


def _size(count: int) -> str:
    """A number of bytes for people.

    >>> _size(999), _size(1_250_000)
    ('999 B', '1.2 MB')
    """
    value = float(count)
    if value < 1000:
        return f"{count} B"
    for unit in ("kB", "MB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} GB"
