"""Images of TensorFlow Datasets, by random access and without TensorFlow (ArrayRecord files)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lsap_jax.errors import LsapError

PREFIX = "tfds:"


def open_tfds(spec: str) -> tuple[list[str], Callable[[int], bytes | np.ndarray]]:
    """Opens `tfds:NAME/SPLIT`; NAME may hold a configuration and a version, SPLIT a slice ("train[:100]").

    The dataset is looked for where TensorFlow Datasets keeps its data (`TFDS_DATA_DIR`, else ~/tensorflow_datasets).
    One that is not there is downloaded and prepared, for which most datasets need TensorFlow; reading needs none.

    Returns:
        ids (the index within SPLIT, in six digits), and a function from an index to the stored bytes of the image (or
        its array, where the dataset holds no file).
    Raises:
        LsapError: not installed, no such dataset or split, not prepared as ArrayRecord, or not one image per example.
    """
    name, _, split = spec.removeprefix(PREFIX).rpartition("/")
    if not name or not split:
        raise LsapError(f"{spec}: write {PREFIX}NAME/SPLIT, for instance {PREFIX}celeb_a/test")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise LsapError(
            f"{spec}: needs tensorflow-datasets ({error}): pip install '.[tfds]' in lsap_jax's checkout"
        ) from None
    builder = None
    try:
        builder = tfds.builder(name)
        key = _image_key(spec, builder, tfds)
        decoders = {key: tfds.decode.SkipDecoding()}
        if builder.is_prepared():  # in several formats, perhaps, which `tfds.data_source` refuses
            examples = builder.as_data_source(split=split, decoders=decoders)
        else:
            examples = tfds.data_source(name, split=split, decoders=decoders)
        count = len(examples)
    except LsapError:
        raise
    except Exception as error:  # that library raises its own types, with pages of text
        raise LsapError(f"{spec}: {_explanation(error, name, builder)}") from None
    if not count:
        raise LsapError(f"{spec}: the split is empty")
    return [f"{index:06d}" for index in range(count)], lambda index: examples[index][key]


def _explanation(error: Exception, name: str, builder: Any) -> str:
    """What went wrong when a dataset was opened, and the remedy."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    formats = _formats(builder)
    if formats and "array_record" not in formats:
        folder = builder.data_path
        command = f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record"
        return (
            f"is prepared as {', '.join(formats)} in {folder}, and only ArrayRecord is read; convert it where "
            f"tensorflow, apache-beam and mlcroissant are installed: {command}"
        )
    if isinstance(error, ImportError):
        return (
            f"is not prepared yet, and preparing it needs more ({first}); prepare it where tensorflow is installed: "
            f"tensorflow_datasets.builder({name!r}, file_format='array_record').download_and_prepare()"
        )
    return f"{first} (datasets are read from ArrayRecord: file_format='array_record')"


def _formats(builder: Any) -> list[str]:
    """File formats in which a dataset lies on the disk; none where it is not prepared, or the library does not say."""
    try:
        return sorted(format.value for format in builder.info.available_file_formats()) if builder.is_prepared() else []
    except Exception:
        return []


def _image_key(spec: str, builder: Any, tfds: Any) -> str:
    features = builder.info.features
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        raise LsapError(f"{spec}: has {len(keys)} image features among {', '.join(features)}; one is needed")
    return keys[0]
