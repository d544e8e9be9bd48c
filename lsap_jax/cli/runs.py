"""What commands on a finished run share: its generator and its space."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.generator import Generator
    from lsap_jax.spaces import Space


def attached(G: "Generator", encoder: str) -> "Generator":
    """G with the base-code encoder of a file in place of its own; G itself where there is no file."""
    if not encoder:
        return G
    from lsap_jax.basecode_file import attach_basecode, load_basecode

    return attach_basecode(G, load_basecode(encoder))


def generator_of(folder: Path, run: dict[str, Any], other: str | None) -> "Generator":
    """The generator that a run was made with, from where run.json says or from `other`.

    Raises:
        LsapError: there is none, or its weights are not those of the run.
    """
    from lsap_jax.generator import bundled, load_generator

    recorded = run.get("generator", {})
    name = other or recorded.get("name", "")
    if not other and name not in bundled() and not Path(name).is_file():
        raise LsapError(f"{folder}: its generator {name!r} is not there; name the file with --generator")
    G = attached(load_generator(name), run.get("config", {}).get("init", {}).get("basecode", ""))
    if G.sha256 != recorded.get("sha256"):
        raise LsapError(
            f"{name}: has SHA-256 {G.sha256[:16]}…, the run {folder} had {str(recorded.get('sha256'))[:16]}…; name the "
            "right file with --generator"
        )
    return G


def space_of(run: dict[str, Any], G: "Generator") -> "Space":
    """The space of a run's codes, with the truncation and the noise that they were found with."""
    from ml_collections import ConfigDict

    from lsap_jax.spaces import space_from_config

    return space_from_config(ConfigDict(run["config"]), G)
