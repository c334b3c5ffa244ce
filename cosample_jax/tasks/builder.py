"""The TFDS builder of every task that is read or downloaded. TensorFlow is not needed."""

import contextlib
import io
import os
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from cosample_jax.errors import UserError
from cosample_jax.tasks.sources import Rows, Source


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The data set `name`: `make` is handed the local copies of `sources`, by split, and gives the rows of each split.

    Rows are texts by field, and are kept as they are: what a task makes of them may change without preparing anew.
    """

    VERSION = tfds.core.Version('1.0.0')

    def __init__(self, name: str, make: Callable, sources: Mapping[str, Source], fields: tuple[str, ...], **kwargs):
        self.name, self._make, self._sources, self._fields = name, make, sources, fields
        super().__init__(**kwargs)

    @property
    def url_infos(self) -> dict[str, tfds.download.checksums.UrlInfo]:
        """Sources whose bytes nobody has published a checksum of are not here: `make` checks what is in them."""
        return {
            source.url: tfds.download.checksums.UrlInfo(
                size=tfds.core.utils.Size(source.num_bytes), checksum=source.sha256, filename=Path(source.url).name
            )
            for source in self._sources.values()
            if source.sha256
        }

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in self._fields})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        paths = dl_manager.download({split: source.url for split, source in self._sources.items()})
        rows = self._make({split: Path(path) for split, path in paths.items()})
        return {split: self._generate_examples(rows[split]) for split in rows}

    def _generate_examples(self, rows: list[dict[str, str]]):
        yield from enumerate(rows)


def prepared(
    name: str,
    title: str,
    make: Callable[[dict[str, Path]], dict[str, Rows]],
    fields: tuple[str, ...],
    sources: Mapping[str, Source],
    instructions: str,
) -> dict[str, Rows]:
    """The rows of each split: made once, from downloads where there are `sources`, and from then on read from where
    TFDS keeps them, `$TFDS_DATA_DIR` (default `~/tensorflow_datasets`).

    Raises:
        UserError: no download; ends with `instructions`. Or what `make` says.
    """
    tfds.disable_progress_bar()
    home = os.environ.get('TFDS_DATA_DIR')
    builder = Builder(name, make, sources, fields, data_dir=home, file_format='array_record')
    if not builder.data_path.exists():
        print(f'{title}: {"downloading" if sources else "reading local files"}, kept in {builder.data_path}')
        try:
            for source in list(sources.values())[-1:]:  # TFDS retries for minutes where there is no network
                urllib.request.urlopen(source.url, timeout=30).close()
            with contextlib.redirect_stdout(io.StringIO()):  # it announces a download of "Unknown size"
                builder.download_and_prepare()
        except (OSError, DownloadError, NonMatchingChecksumError) as error:
            if not sources:
                raise
            reason = str(error).split('\n')[0]
            raise UserError(f'{title} cannot be downloaded ({reason}): {instructions}') from error
    data = builder.as_data_source()
    return {split: [{key: text.decode() for key, text in row.items()} for row in data[split]] for split in data}
