"""Face networks with their weights, and the unit vectors that they turn faces into.

Both come from their public files: facenet-pytorch's Inception-ResNet v1 ("inception_resnet_v1", of the crop that MTCNN
finds) and ArcFace's IR-SE50 ("arcface", of a fixed crop of an aligned image).

References: Schroff et al., FaceNet (CVPR 2015); Deng et al., ArcFace (CVPR 2019); facenet-pytorch's defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from PIL import Image

from convert_weights.checkpoint import Checkpoint
from lsap_jax.errors import LsapError
from lsap_jax.networks import inception_resnet, irse
from lsap_jax.pixels import to_uint8
from lsap_jax.storage import weights_file

FACENET, ARCFACE = "inception_resnet_v1", "arcface"  # the kinds of the files, and the names in results
FACE_SIZE = inception_resnet.RESOLUTION
_REMEDY = (
    "convert 20180402-114759-vggface2.pt of facenet-pytorch, or ArcFace's model_ir_se50.pth, with `lsap-jax convert`"
)

Images = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class EmbedderRecord:
    """What pins an embedding down, for results.

    Attributes:
        name: "inception_resnet_v1" or "arcface".
        network: the architecture.
        trained_on: the training set, where the file tells.
        weights: the SHA-256 of the tensors.
        source_sha256: that of the public file they come from.
        resolution: pixels a side that the network sees.
        crop: what part of an image it sees.
        resize: how the crop comes to that resolution.
        quantisation: what happens to float images before.
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
    """A face network with its weights: `params` of `InceptionResnetV1` or `Irse50`, and the record of what it sees."""

    params: Mapping[str, Any]
    record: EmbedderRecord = struct.field(pytree_node=False)


def _embedder(kind: str, arrays: Mapping[str, np.ndarray], trained_on: str, source_sha256: str) -> Embedder:
    fill = inception_resnet.inception_resnet_params if kind == FACENET else irse.irse_params
    record = EmbedderRecord(
        name=kind,
        trained_on=trained_on,
        weights=f"tensors of SHA-256 {weights_file.digest(arrays)}",
        source_sha256=source_sha256,
        **_FACTS[kind],
    )
    return Embedder(params=jax.tree.map(jnp.asarray, fill(arrays)), record=record)


def embedder_from_checkpoint(checkpoint: Checkpoint) -> Embedder:
    """Face network of a `convert_weights.Checkpoint` of kind "inception_resnet_v1" or "arcface".

    Raises:
        LsapError: the checkpoint holds something else or is incomplete.
    """
    if checkpoint.kind not in _FACTS:
        raise LsapError(
            f"this file holds {checkpoint.kind!r} weights ({checkpoint.format}), not a face network's; {_REMEDY}"
        )
    return _embedder(checkpoint.kind, checkpoint.arrays, _trained_on(checkpoint.config), checkpoint.sha256)


def _trained_on(config: Mapping[str, Any]) -> str:
    return str(config.get("trained_on", "unknown"))


def save_embedder(path: str | Path, checkpoint: Checkpoint) -> str:
    """Write the weights as one file for `load_embedder`; returns the digest of its tensors.

    Raises:
        LsapError: see `embedder_from_checkpoint`; nothing is written then.
    """
    embedder_from_checkpoint(checkpoint)
    return weights_file.write_weights(
        path, checkpoint.kind, checkpoint.arrays, checkpoint.config, checkpoint.provenance
    )


def load_embedder(path: str | Path | None) -> Embedder:
    """Face network of a file of `save_embedder`, its digest checked, or of a public file converted on the fly.

    Args:
        path: None, for "no weights were given", is refused with the way to them.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, incomplete, or holds something else.
    """
    if path is None:
        raise LsapError(f"identity similarity needs the weights of a face network; {_REMEDY}")
    if not Path(path).is_file():
        raise LsapError(f"{path}: no such file; {_REMEDY}")
    if not weights_file.is_weights_file(path):
        from convert_weights import read

        checkpoint = read(path)
        try:
            return embedder_from_checkpoint(checkpoint)
        except LsapError as error:
            raise LsapError(f"{path}: {error}") from error
    kind, arrays, config, provenance = weights_file.read_weights(path)
    if kind not in _FACTS:
        raise LsapError(f"{path}: holds {kind!r} weights, not a face network's; {_REMEDY}")
    try:
        return _embedder(kind, arrays, _trained_on(config), str(provenance.get("source_sha256", "")))
    except LsapError as error:
        raise LsapError(f"{path}: {error}") from error


def embeddings(embedder: Embedder, images: jax.Array) -> jax.Array:
    """Unit vectors [B, 512] of images [B, H, W, 3] in [-1, 1]; pure, so that it can be traced and differentiated.

    Args:
        embedder: of `load_embedder`.
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
    """Unit vectors of images, for `identity_similarity`; `embedder.record` pins them down.

    Args:
        embedder: of `load_embedder`.
        images: [N, H, W, C] with C of 1 (repeated) or 3, uint8, or float in [-1, 1] (rounded to 256 levels: an edited
            image is to be what a file of it would be). Faces (see `face_crops`) for "inception_resnet_v1", resized to
            160 px; aligned images for "arcface", which crops them itself.
        batch_size: images at once; the last batch is padded, so that one program runs them all.

    Returns:
        [N, 512] float32.

    Raises:
        LsapError: no such images, or floats that are not finite.
    """
    if np.ndim(images) != 4:
        raise LsapError(f"face embeddings need images [N, H, W, 1 or 3], got shape {np.shape(images)}")
    return embed_pictures(embedder, [to_levels(image) for image in images], batch_size)


def embed_pictures(embedder: Embedder, pictures: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """See `embed`; uint8 [H, W, 3] each, of one size if for "arcface"."""
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
