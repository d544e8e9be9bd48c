"""Face networks with their weights, and the unit vectors that they turn faces into.

Both come from their public files: facenet-pytorch's Inception-ResNet v1 ("inception_resnet_v1", of the crop that MTCNN
finds) and ArcFace's IR-SE50 ("arcface", of a fixed crop of an aligned image).

References: Schroff et al., FaceNet (CVPR 2015); Deng et al., ArcFace (CVPR 2019); facenet-pytorch's defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.networks import inception_resnet, irse
from lsap_jax.pixels import to_uint8

FACENET, ARCFACE = EMBEDDERS = ("inception_resnet_v1", "arcface")  # the kinds of the files, the names in results
FACE_SIZE = inception_resnet.RESOLUTION

Images = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class EmbedderRecord:
    """The facts that define an embedding, for results.

    Attributes:
        name: "inception_resnet_v1" or "arcface".
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
}


class Embedder(struct.PyTreeNode, kw_only=True):
    """A face network with its weights: `params` of `InceptionResnetV1` or `Irse50`, and the record that defines it."""

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
    return Embedder(params=jax.tree.map(jnp.asarray, params), record=record)


def embeddings(embedder: Embedder, images: jax.Array) -> jax.Array:
    """Unit vectors [B, 512] of images [B, H, W, 3] in [-1, 1]; pure, so that it can be traced and differentiated.

    Args:
        embedder: of `load(path, *EMBEDDERS)`.
        images: faces of 160 x 160 px for "inception_resnet_v1", aligned images of any size for "arcface".

    Raises:
        LsapError: the images have another size.
    """
    if embedder.record.name == ARCFACE:
        return irse.Irse50().apply({"params": embedder.params}, irse.aligned_crop(images))  # type: ignore[return-value]
    if images.shape[1:3] != (FACE_SIZE, FACE_SIZE):
        raise LsapError(
            f"Inception-ResNet v1 takes faces of {FACE_SIZE} x {FACE_SIZE} px, got {images.shape[1]} x "
            f"{images.shape[2]}; crop them with face_crops, or use embed"
        )
    network = inception_resnet.InceptionResnetV1()
    return network.apply({"params": embedder.params}, images * (127.5 / 128.0))  # type: ignore[return-value]


@jax.jit
def _of_levels(embedder: Embedder, levels: jax.Array) -> jax.Array:
    return embeddings(embedder, levels.astype(jnp.float32) / 127.5 - 1.0)


def embed(embedder: Embedder, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Unit vectors of images, for `identity_similarity`; `embedder.record` defines them.

    Args:
        embedder: of `load(path, *EMBEDDERS)`.
        images: [N, H, W, C] with C of 1 (repeated) or 3, uint8, or float in [-1, 1] (rounded to 256 levels, as in
            an image file). Faces (see `face_crops`) for "inception_resnet_v1", resized to
            160 px; aligned images for "arcface", which crops them itself.
        batch_size: images per call; the last batch is padded, so that one program runs them all.

    Returns:
        [N, 512] float32.

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
        return np.zeros((0, inception_resnet.FEATURES), np.float32)
    size = min(batch_size, len(pictures))
    out = []
    for start in range(0, len(pictures), size):
        chunk = list(pictures[start : start + size])
        if embedder.record.name == FACENET:
            chunk = [_resized(picture) for picture in chunk]
        if any(picture.shape != chunk[0].shape for picture in chunk):
            raise LsapError("aligned images of several sizes cannot be embedded together; give them one size at a time")
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


def _resized(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] at 160 px, by Pillow's antialiased bilinear filter."""
    if picture.shape[:2] == (FACE_SIZE, FACE_SIZE):
        return picture
    return np.asarray(Image.fromarray(picture).resize((FACE_SIZE, FACE_SIZE), Image.Resampling.BILINEAR))
