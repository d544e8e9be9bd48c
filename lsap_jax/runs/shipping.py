"""Networks and a configuration as values that go to another process, and the digest of any network."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.models.generator import Generator
from lsap_jax.storage.weights_file import digest


@dataclass(frozen=True, kw_only=True)
class Cargo:
    """A generator and a configuration, with the files of weights that it names.

    Attributes:
        G: with numpy leaves.
        config: as a dictionary.
        files: dotted key -> bytes of the file that it names, as uint8, which Ray does not copy.
    """

    G: Generator
    config: dict[str, Any]
    files: Mapping[str, np.ndarray]

    @contextmanager
    def unpacked(self) -> Iterator[tuple[Generator, ConfigDict]]:
        """Generator and configuration; the files that it names exist inside the context."""
        config = ConfigDict(self.config)
        with TemporaryDirectory(prefix="lsap-jax-") as folder:
            for i, (key, data) in enumerate(self.files.items()):
                file = Path(folder) / f"{i}.safetensors"
                file.write_bytes(data.tobytes())
                config.update_from_flattened_dict({key: str(file)})
            yield self.G, config


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What another process needs for a worker.

    Attributes:
        make: makes it of a generator and a configuration; can be pickled.
    """

    cargo: Cargo
    make: Callable[[Generator, ConfigDict], Any]

    def __call__(self) -> Any:
        with self.cargo.unpacked() as networks:
            return self.make(*networks)


def packed(G: Generator, config: ConfigDict, files: Mapping[str, str]) -> Cargo:
    """Cargo of a generator and a configuration.

    Args:
        files: dotted key -> the file that it names.
    """
    return Cargo(
        G=jax.tree.map(np.asarray, G),
        config=config.to_dict(),
        files={key: np.frombuffer(Path(file).read_bytes(), np.uint8) for key, file in files.items()},
    )


def sha256_of(network: Any) -> str:
    """SHA-256 of the weights of any network that is a pytree, by the paths of its leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(network)
    return digest({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
