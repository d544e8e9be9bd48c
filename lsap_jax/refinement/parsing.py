"""What a parser of faces says of images, for methods that treat parts of them in different ways."""

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.models.face_parser import CLASSES, FaceParserNetwork
from lsap_jax.models.network_file import load
from lsap_jax.refinement import domain

# SAM takes the face with all in it, ears and neck as one segment; GANInverter's variant the hair, too.
FACE = ("face", "lb", "rb", "le", "re", "lr", "rr", "nose", "imouth", "ulip", "llip", "neck")
FUSED = {"original": FACE, "ganinverter": (*FACE, "hair")}


def load_parser(path: str) -> FaceParserNetwork:
    """The parser in a converted file or a checkpoint.

    Raises:
        LsapError: it is another file, or a parser with other classes than `CLASSES`.
    """
    parser: FaceParserNetwork = load(path, FaceParserNetwork.kind)
    if parser.config.classes != len(CLASSES):
        raise LsapError(
            f"refine.parser={path}: has {parser.config.classes} classes; choose a parser with the {len(CLASSES)} of "
            "CelebAMask-HQ"
        )
    return parser


def face_segments(parser: FaceParserNetwork, images: jax.Array, variant: str) -> jax.Array:
    """The segment of each pixel, int [B, R, R] below the number of classes: a class, or those that are `FUSED`.

    Args:
        images: [B, R, R, 1 or 3] in [-1, 1].
        variant: of SAM.
    """
    fused = [CLASSES.index(name) for name in FUSED[variant]]
    numbers = np.arange(len(CLASSES))
    numbers[fused] = CLASSES.index("face")
    return jnp.asarray(numbers)[jnp.argmax(parser.shares(images), -1)]


def domain_shares(parser: FaceParserNetwork, images: jax.Array) -> jax.Array:
    """Probabilities [B, R, R, classes] in the order of `lsap_jax.refinement.domain.CLASSES`; zeros, which say nothing,
    for an image in which no pixel is a face's skin: GANInverter leaves images without a face to the segments alone.
    """
    shares = parser.shares(images)
    faces = (jnp.argmax(shares, -1) == CLASSES.index("face")).any((1, 2))
    order = np.array([CLASSES.index(name) for name in domain.CLASSES])
    return jnp.where(faces[:, None, None, None], shares[..., order], 0)
