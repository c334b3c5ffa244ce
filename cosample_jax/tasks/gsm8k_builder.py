"""The TFDS builder of GSM8K: the official files by checksum, or local ones. TensorFlow is not needed."""

from pathlib import Path

import tensorflow_datasets as tfds

from cosample_jax.tasks import gsm8k


class Gsm8k(tfds.core.GeneratorBasedBuilder):
    """7,473 training and 1,319 test problems, in the order of the official files.

    `files` maps 'train' and 'test' to local JSONL files that take the place of the download.
    """

    VERSION = tfds.core.Version('1.0.0')
    pkg_dir_path = Path(__file__).parent

    def __init__(self, *, files: dict[str, Path] | None = None, **kwargs):
        self._files = files
        super().__init__(**kwargs)

    @tfds.core.utils.classproperty
    @classmethod
    def url_infos(cls) -> dict[str, tfds.download.checksums.UrlInfo]:
        return {
            source.url: tfds.download.checksums.UrlInfo(
                size=tfds.core.utils.Size(source.num_bytes), checksum=source.sha256, filename=f'{split}.jsonl'
            )
            for split, source in gsm8k.SOURCES.items()
        }

    def _info(self) -> tfds.core.DatasetInfo:
        features = {name: tfds.features.Text() for name in ('id', 'question', 'answer')}
        return self.dataset_info_from_configs(
            description='Grade-school math word problems with written solutions (Cobbe et al. 2021).',
            features=tfds.features.FeaturesDict(features),
            homepage='https://github.com/openai/grade-school-math',
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        urls = {split: source.url for split, source in gsm8k.SOURCES.items()}
        files = self._files or dl_manager.download(urls)
        return {split: self._generate_examples(split, Path(path)) for split, path in files.items()}

    def _generate_examples(self, split: str, path: Path):
        for index, row in enumerate(gsm8k.read_rows(path)):
            yield index, {'id': f'{split}/{index}', 'question': row['question'], 'answer': row['answer']}
