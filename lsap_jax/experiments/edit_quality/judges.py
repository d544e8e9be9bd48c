"""What edits are judged by: a classifier of attributes, the discriminator, a face network, chosen by the settings."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ml_collections import ConfigDict

from lsap_jax.data import Source
from lsap_jax.experiments.edit_quality.quality import Judges
from lsap_jax.experiments.edit_quality.real_images import real_images
from lsap_jax.metrics.identity import load_meter
from lsap_jax.models.attributes_file import load_attributes
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load

NONE = "none"
OTHER = f"give its own classifier with --attributes, or {NONE} to measure without one"


def choose_judges(
    G: Generator,
    config: ConfigDict,
    tell: Callable[[str], object] = lambda line: None,
    source: Source | None = None,
) -> tuple[Judges, dict[str, Any]]:
    """The judges that a configuration names, and what quality.json says of them.

    Args:
        config: with "attributes" ("none" for no classifier), "identity", "detect", "inception" and "most_real".
        source: of real images.
        tell: called with a line about each judge that is left out.

    Raises:
        LsapError: a file is not what it should be, or belongs to another generator.
    """
    attributes = None if config.attributes == NONE else load_attributes(config.attributes or None, G, OTHER)
    identity = load_meter(config.identity, config.detect, tell) if config.identity else None
    detector = None if identity is None else identity.detector
    described: dict[str, Any] = {
        "attributes": None
        if attributes is None
        else {
            "accuracy": attributes.accuracy,
            "sha256": attributes.provenance.get("sha256"),
            "binary": {name: one._asdict() for name, one in attributes.binary.items()},
        },
        "identity": None if identity is None else asdict(identity.embedder.record),
        "detector": None if detector is None else detector.sha256,
    }
    if attributes is None and identity is None and G.discriminator is None:
        tell("measured by NSCD alone: there is no classifier, face network or discriminator")
    real = None
    if source is not None and attributes is None:
        tell("real images are left out: no classifier says which of them have an attribute")
    elif source is not None and attributes is not None:
        inception = load(config.inception, "inception") if config.inception else None
        real = real_images(G, source, attributes, inception, config.most_real)
        described["real"] = real.record
    return Judges(attributes=attributes, identity=identity, real=real), described


def unknown_to(judges: Judges, names: Sequence[str]) -> list[str]:
    """Directions without an attribute of the classifier: their edits have no success, and nothing to toggle."""
    return [name for name in names if judges.attributes is None or name not in judges.attributes.binary]
