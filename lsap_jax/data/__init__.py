"""Image sources: from folders, globs, files, datasets and arrays to uint8 targets of the generator's shape."""

from lsap_jax.data.decode import ImageError
from lsap_jax.data.source import Item, Source, from_arrays, open_images

__all__ = ["ImageError", "Item", "Source", "from_arrays", "open_images"]
