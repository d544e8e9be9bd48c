"""What a training run was begun with, so that a resumed one does not mix two."""

import json
from collections.abc import Collection
from pathlib import Path

from ml_collections import ConfigDict

from lsap_jax.configuration import flat
from lsap_jax.errors import LsapError
from lsap_jax.storage.atomic import write_files


def check_source(out: Path, config: ConfigDict, generator_sha256: str, free: Collection[str]) -> None:
    """Note in `out` what is trained there: the configuration and the digest of the weights it starts from.

    Args:
        free: keys that a resumed run may change, its length for one.

    Raises:
        LsapError: something else was begun in `out`.
    """
    source = {"generator_sha256": generator_sha256, **{k: v for k, v in flat(config).items() if k not in free}}
    source = json.loads(json.dumps(source))  # tuples as lists
    path = out / "source.json"
    if not path.is_file():
        write_files({path: json.dumps(source, indent=1, sort_keys=True).encode()})
        return
    before = json.loads(path.read_text())
    changed = sorted(k for k in before.keys() | source.keys() if before.get(k) != source.get(k))
    if changed:
        k = changed[0]
        raise LsapError(
            f"{out}: was begun with {k}={before.get(k)}, now it is {source.get(k)}; give another --out, or empty it"
        )
