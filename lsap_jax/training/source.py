"""What a training was started with, recorded so that a resumed one cannot mix two."""

from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from lsap_jax.configuration import flat
from lsap_jax.storage.matching import Layout, begin

SOURCE = Layout("source.json", "", "training")


def check_source(out: Path, config: ConfigDict, generator_sha256: str, free: Collection[str]) -> None:
    """Note in `out` what is trained there: the configuration and the digest of the weights it starts from.

    Args:
        free: keys that a resumed run may change, its length for one.

    Raises:
        LsapError: something else was begun in `out`.
    """
    settings = {k: v for k, v in sorted(flat(config).items()) if k not in free}
    begin(out, SOURCE, {"generator_sha256": generator_sha256, **settings})
