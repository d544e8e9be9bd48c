"""The classifier that goes with a generator: the bundled one, or one in a file."""

from importlib import resources
from pathlib import Path

from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import Attributes
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load, save
from lsap_jax.models.registry import KINDS

BUNDLED = "toonhead64"
_REMEDY = KINDS[Attributes.kind].remedy


def save_attributes(path: str | Path, attributes: Attributes) -> str:
    """Write one safetensors file for `load_attributes`; returns the digest of its tensors."""
    return save(path, attributes, attributes.provenance)


def load_attributes(
    path: str | Path | None = None, G: Generator | None = None, other: str = "give its own classifier with --attributes"
) -> Attributes:
    """The classifier in a file of `save_attributes`, after checking its digest.

    Args:
        path: the file; "toonhead64" is the bundled classifier. None is the same, but is refused for other generators.
        G: the generator whose images are to be judged, if any.
        other: how another classifier is named, for the message.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged or holds something else, or it does not fit G.
    """
    file = Path(str(resources.files("lsap_jax") / "assets")) / f"{BUNDLED}.attributes.safetensors"
    if path is not None and str(path) != BUNDLED:
        file = Path(path)
    if not file.is_file():
        raise LsapError(f"{file}: no such file; {other}, or {_REMEDY}")
    found: Attributes = load(file, Attributes.kind)
    if G is not None:
        _check_generator(found, G, file, path is None, other)
    return found


def _check_generator(attributes: Attributes, G: Generator, file: Path, bundled: bool, other: str) -> None:
    own = attributes.config
    if (own.resolution, own.channels) != (G.img_resolution, G.img_channels):
        raise LsapError(
            f"{file}: judges images of {own.resolution} px and {own.channels} channels, the generator makes "
            f"{G.img_resolution} px and {G.img_channels}; {other}, or {_REMEDY}"
        )
    if not bundled:
        return
    wanted, digest = (attributes.provenance.get("generator") or {}).get("sha256"), G.network_sha256
    if wanted != digest:
        raise LsapError(
            f"the bundled attribute classifier is for {BUNDLED} (weights of SHA-256 {str(wanted)[:16]}…), not for this "
            f"generator ({digest[:16]}…); {other} ({BUNDLED} if its images are of the same kind), or {_REMEDY}"
        )
