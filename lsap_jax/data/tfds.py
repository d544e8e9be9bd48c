"""Images of TensorFlow Datasets, by random access and without TensorFlow (ArrayRecord files)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lsap_jax.errors import LsapError

PREFIX = "tfds:"


def open_tfds(spec: str) -> tuple[list[str], Callable[[int], bytes | np.ndarray]]:
    """Opens `tfds:NAME/SPLIT`; NAME may hold a configuration and a version, SPLIT a slice ("train[:100]").

    The dataset is downloaded and prepared where TensorFlow Datasets keeps its data, unless it is there already.

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
        raise LsapError(f"{spec}: needs tensorflow-datasets ({error}): pip install 'lsap-jax[tfds]'") from None
    try:
        key = _image_key(spec, tfds.builder(name), tfds)
        examples = tfds.data_source(name, split=split, decoders={key: tfds.decode.SkipDecoding()})
        count = len(examples)
    except LsapError:
        raise
    except Exception as error:  # that library raises its own types, with pages of text
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LsapError(f"{spec}: {first} (datasets are read from ArrayRecord: file_format='array_record')") from None
    if not count:
        raise LsapError(f"{spec}: the split is empty")
    return [f"{index:06d}" for index in range(count)], lambda index: examples[index][key]


def _image_key(spec: str, builder: Any, tfds: Any) -> str:
    features = builder.info.features
    keys = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if "image" in keys:
        return "image"
    if len(keys) != 1:
        raise LsapError(f"{spec}: has {len(keys)} image features among {', '.join(features)}; one is needed")
    return keys[0]
