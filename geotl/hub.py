"""A published model, loaded from a folder or a hub as model hubs' own libraries do it.

Needs huggingface_hub (extra `hub`). A folder is read without any network; nothing is unpickled.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.errors import ModelError
from geotl.export.hub_folder import FILES, LIBRARY, MODEL, Terms, fill_hub, write_config
from geotl.models import model_file

try:
    from huggingface_hub import ModelHubMixin, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
except ImportError as error:
    raise ModelError(
        "loading published models needs huggingface_hub; pip install 'geotl[hub]', or open the "
        "folder's model.safetensors with geotl.load"
    ) from error

if TYPE_CHECKING:
    from geotl.api import Model, Predictions


class HubModel(
    ModelHubMixin,
    library_name=LIBRARY,
    pipeline_tag="image-classification",
    tags=["geotl", "remote-sensing", "land-cover"],
):
    """A model that names tiles, with `from_pretrained`, `save_pretrained` and `push_to_hub`.

    `model` is the same as `geotl.load` gives; it also maps scenes and evaluates.
    """

    def __init__(self, model: Model, folder: Path | None = None) -> None:
        """Wrap a model, which may come from a published folder."""
        self.model, self.folder = model, folder

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return self.model.classes

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the input bands, in order."""
        return self.model.bands

    def predict(self, tiles: Any, **options: Any) -> Predictions:
        """Name tiles, as `geotl.Model.predict` does."""
        return self.model.predict(tiles, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> HubModel:
        """Load a published folder, or `owner/name` of a hub.

        Raises:
            ModelError: there is no such folder or model, or it is damaged or foreign.
        """
        given = Path(pretrained_model_name_or_path)
        if not given.is_dir() and _is_path(pretrained_model_name_or_path):
            raise ModelError(f"{given}: no such folder; give one that geotl export wrote")
        try:
            model: HubModel = super().from_pretrained(str(given), **options)
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{given}: neither a folder nor a model on the hub ({reason})"
            ) from error
        return model

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> HubModel:
        from geotl.api import load

        folder = Path(model_id)
        if not folder.is_dir():
            options_used = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            asked = {key: options[key] for key in options_used if key in options}
            folder = Path(snapshot_download(model_id, allow_patterns=list(FILES), **asked))
        return cls(load(folder / MODEL), folder)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the complete folder: a copy of its source folder, else a new one."""
        file = self.model.file
        if not isinstance(file, model_file.ModelFile):
            raise ModelError(f"{file.path}: an exported file cannot be published; give its model")
        if self.folder is None:
            fill_hub(file, save_directory, Terms(), log=_silent)
            return
        if self.folder.resolve() == save_directory.resolve():
            write_config(file, save_directory)  # the mixin has taken it away
            return
        for name in FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, save_directory / name)


def published(path: str | Path) -> HubModel:
    """A model file, ready for `save_pretrained` and `push_to_hub`.

    Raises:
        ModelError: not there, damaged, or not a geotl model.
    """
    from geotl.api import Model

    return HubModel(Model(model_file.load(path)))


def _is_path(given: str | Path) -> bool:
    """Whether this can only be a folder; a hub's names are `name` or `owner/name`."""
    text = str(given)
    return isinstance(given, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1


def _silent(_: str) -> None:
    """Write no log."""
