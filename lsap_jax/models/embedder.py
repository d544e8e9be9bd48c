"""Face networks with their weights, and the unit vectors that they turn faces into.

They come from their public files: facenet-pytorch's Inception-ResNet v1 ("inception_resnet_v1", of the crop that MTCNN
finds), ArcFace's IR-SE50 ("arcface", of a fixed crop of an aligned image) and dlib's ResNet ("dlib_resnet", of a face
whose eyes are where dlib puts them). dlib's comes with the package.

References: Schroff et al., FaceNet (CVPR 2015); Deng et al., ArcFace (CVPR 2019); facenet-pytorch's defaults; King,
dlib_face_recognition_resnet_model_v1 (dlib-models).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.networks import dlib_resnet, inception_resnet, irse, moco
from lsap_jax.networks.bounds import Text
from lsap_jax.networks.image_by_image import images_at_once
from lsap_jax.pixels import to_uint8

# The kinds of the files, the names in results.
FACENET, ARCFACE, DLIB = EMBEDDERS = ("inception_resnet_v1", "arcface", "dlib_resnet")
MOCO = "moco"  # of images of anything, for training encoders; no measure of identity
FACE_SIZE = inception_resnet.RESOLUTION

Images = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class EmbedderConfig:
    """Each network comes in one size; a file names it, and the set that it was trained on."""

    name: Text = ""
    trained_on: Text = "unknown"


@dataclass(frozen=True, kw_only=True)
class EmbedderRecord:
    """The facts that define an embedding, for results.

    Attributes:
        name: one of `EMBEDDERS`, or `MOCO`.
        network: the architecture.
        trained_on: the training set, if the file states it.
        weights: the SHA-256 of the tensors.
        source_sha256: the SHA-256 of the public file that they come from.
        resolution: pixels a side that the network sees.
        crop: what part of an image it sees.
        resize: how the crop is resized to that resolution.
        quantisation: how float images are quantised first.
        range: of the network's input.
    """

    name: str
    network: str
    trained_on: str
    weights: str
    source_sha256: str
    resolution: int
    crop: str
    resize: str
    quantisation: str = "floats to 256 levels: floor(127.5 x + 128), clipped"
    range: str


_FACTS: dict[str, dict[str, Any]] = {
    FACENET: {
        "network": "Inception-ResNet v1 of facenet-pytorch, 512 features",
        "resolution": inception_resnet.RESOLUTION,
        "crop": "MTCNN's box of the largest face, margin 0, clipped to the image, whole pixels; the whole image where "
        "no detector is given",
        "resize": "Pillow's bilinear filter (antialiased), of uint8 pixels",
        "range": "(level - 127.5) / 128",
    },
    ARCFACE: {
        "network": "IR-SE50 of ArcFace, 512 features",
        "resolution": irse.RESOLUTION,
        "crop": "rows 35 to 222 and columns 32 to 219 of the aligned image at 256 px",
        "resize": "adaptive averages to 256 px, and of the crop to 112 px",
        "range": "[-1, 1]: level / 127.5 - 1",
    },
    DLIB: {
        "network": "dlib's face recognition ResNet, 128 features, not of unit length",
        "resolution": dlib_resnet.RESOLUTION,
        "crop": "a square with the eyes where dlib's 5-point alignment puts them (padding 0.25), by MTCNN's eyes; the "
        "whole image where no detector is given",
        "resize": "bilinear at 4 times the size, then Lanczos; Pillow's bilinear filter of whole images",
        "range": "(level - mean) / 256, the mean of red, green, blue 122.782, 117.001, 104.298",
    },
    MOCO: {
        "network": "ResNet-50 of MoCo v2, 2048 features",
        "resolution": moco.RESOLUTION,
        "crop": "the whole image",
        "resize": "one pixel for each at 224 px, without averaging",
        "range": "[-1, 1], as in e4e's loss",
    },
}


class Embedder(struct.PyTreeNode, kw_only=True):
    """A face network with its weights: `params` of its network, and the record that defines it."""

    params: Mapping[str, Any]
    record: EmbedderRecord = struct.field(pytree_node=False)


def embedder_of(
    name: str, params: Mapping[str, Any], header: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Embedder:
    """The face network from the parts of a file; `name` is its kind."""
    record = EmbedderRecord(
        name=name,
        trained_on=str(header.get("trained_on", "unknown")),
        weights=f"tensors of SHA-256 {provenance['sha256']}",
        source_sha256=str(provenance.get("source_sha256", "")),
        **_FACTS[name],
    )
    return Embedder(params=jax.device_put(params), record=record)


def embeddings(embedder: Embedder, images: jax.Array) -> jax.Array:
    """Vectors [B, D] of images [B, H, W, 3] in [-1, 1]; pure, so that it can be traced and differentiated.

    They are unit vectors of 512 numbers, or dlib's descriptors of 128.

    Args:
        embedder: of `lsap_jax.metrics.identity.load_embedder`.
        images: faces of 160 x 160 px for "inception_resnet_v1", of 150 x 150 px for "dlib_resnet", aligned images
            of any size for "arcface".

    Raises:
        LsapError: the images have another size.
    """
    size = face_size(embedder)
    if size is not None and images.shape[1:3] != (size, size):
        raise LsapError(
            f"{embedder.record.network} takes faces of {size} x {size} px, got {images.shape[1]} x {images.shape[2]}; "
            "crop them with face_crops, or use embed"
        )
    row = _NETWORKS[embedder.record.name]
    return row.network.apply({"params": embedder.params}, row.prepared(images))  # type: ignore[return-value]


class _Network(NamedTuple):
    """A row: the network, the number of its features, and what it is given of images in [-1, 1]."""

    network: nn.Module
    features: int
    prepared: Callable[[jax.Array], jax.Array]


_NETWORKS = {
    FACENET: _Network(
        inception_resnet.InceptionResnetV1(), inception_resnet.FEATURES, lambda images: images * (127.5 / 128.0)
    ),
    ARCFACE: _Network(irse.Irse50(), irse.FEATURES, irse.aligned_crop),
    MOCO: _Network(moco.MocoNetwork(), moco.FEATURES, moco.nearest),
    DLIB: _Network(dlib_resnet.DlibResnet(), dlib_resnet.FEATURES, lambda images: (images + 1) * 127.5),
}


def face_size(embedder: Embedder) -> int | None:
    """Pixels a side of the faces that it takes; None if it takes aligned images and crops them itself."""
    return None if embedder.record.name in (ARCFACE, MOCO) else embedder.record.resolution


@jax.jit
def _of_levels(embedder: Embedder, levels: jax.Array) -> jax.Array:
    return embeddings(embedder, levels.astype(jnp.float32) / 127.5 - 1.0)


def embed(embedder: Embedder, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Vectors of images, for `identity_similarity`; `embedder.record` defines them.

    Args:
        embedder: of `lsap_jax.metrics.identity.load_embedder`.
        images: [N, H, W, C] with C of 1 (repeated) or 3, uint8, or float in [-1, 1] (rounded to 256 levels, as in
            an image file). Faces (see `face_crops`), resized to `face_size`; aligned images for "arcface", which crops
            them itself.
        batch_size: images per call; the last batch is padded, so that one program runs them all. On CPUs it is 1, and
            a vector does not depend on the other images.

    Returns:
        [N, D] float32, D of 512 or, for dlib's, 128.

    Raises:
        LsapError: the images have another shape or type, or floats are not finite.
    """
    if np.ndim(images) != 4:
        raise LsapError(f"face embeddings need images [N, H, W, 1 or 3], got shape {np.shape(images)}")
    return embed_pictures(embedder, [to_levels(image) for image in images], batch_size)


def embed_pictures(embedder: Embedder, pictures: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """`embed` of pictures uint8 [H, W, 3]; for "arcface" all of them have one size."""
    if batch_size < 1:
        raise LsapError(f"batch_size {batch_size} is not a number of images; give 1 or more")
    if not pictures:
        return np.zeros((0, _NETWORKS[embedder.record.name].features), np.float32)
    if face_size(embedder) is None and any(picture.shape != pictures[0].shape for picture in pictures):
        raise LsapError("aligned images of several sizes cannot be embedded together; give them one size at a time")
    size = images_at_once(jax.local_devices()) or batch_size
    out = []
    for start in range(0, len(pictures), size):
        chunk = list(pictures[start : start + size])
        if (side := face_size(embedder)) is not None:
            chunk = [_resized(picture, side) for picture in chunk]
        padded = np.stack(chunk + [np.zeros_like(chunk[0])] * (size - len(chunk)))
        out.append(np.asarray(_of_levels(embedder, jnp.asarray(padded)))[: len(chunk)])
    return np.concatenate(out)


def to_levels(image: np.ndarray) -> np.ndarray:
    """One image as uint8 [H, W, 3]; floats are rounded, grey is repeated."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or not image.size:
        raise LsapError(f"face embeddings need images [H, W, 1 or 3], got shape {image.shape}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise LsapError(f"face embeddings need uint8 images or floats in [-1, 1], got {image.dtype}")
    try:
        levels = image if image.dtype == np.uint8 else to_uint8(image)
    except ValueError as error:
        raise LsapError(f"{error}; leave such images out") from error
    return np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 [H, W, 3] at this size, by Pillow's antialiased bilinear filter."""
    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
