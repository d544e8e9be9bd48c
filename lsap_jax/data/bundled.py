"""The sample images that the package brings."""

from importlib import resources
from pathlib import Path

from lsap_jax.errors import LsapError


def sample_images() -> str:
    """Folder of the bundled sample images.

    Raises:
        LsapError: this installation comes without sample images.
    """
    folder = Path(str(resources.files("lsap_jax") / "assets" / "samples"))
    if not folder.is_dir():
        raise LsapError("this installation has no sample images; name yours with --images (and a --generator)")
    return str(folder)
