"""A classifier of image labels, for a generator whose attributes have exact ground truth.

An edit should change one attribute and keep the others: `attribute_scores` measures how far an image lies on one side
of a binary attribute, and `label_probabilities` gives the probability of each value of each label.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.networks.attributes import AttributesConfig, AttributesNetwork
from lsap_jax.networks.bounds import Text, checked
from lsap_jax.pixels import to_uint8

BATCH = 64  # images per call, always, so that there is one program


class BinaryAttribute(NamedTuple):
    """The values of a label that are positive and those that are negative; other values are neither."""

    label: Text
    positive: tuple[Text, ...]
    negative: tuple[Text, ...]

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Self:
        """From a mapping with "label", "positive" and "negative", as in configurations and files."""
        return cls(str(parts["label"]), tuple(parts["positive"]), tuple(parts["negative"]))


@dataclass(frozen=True, kw_only=True)
class AttributesHeader(AttributesConfig):
    """The header of a classifier's file: the shape of the network, and the binary attributes by name."""

    binary: dict[Text, BinaryAttribute]


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """A classifier with its weights, its labels and its provenance.

    Attributes:
        config: shape of the network, with its labels.
        params: of `AttributesNetwork`.
        binary: the binary attributes by name.
        provenance: how it was trained: "accuracy" {label: held-out accuracy}, "heldout", "generator" and others.
    """

    kind: ClassVar[str] = "attributes"
    config: AttributesConfig
    params: Mapping[str, Any]
    binary: Mapping[str, BinaryAttribute]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Label -> its values, in the order of the probabilities."""
        return dict(self.config.labels)

    @property
    def accuracy(self) -> dict[str, float]:
        """Label -> share of held-out images that it classifies correctly; empty if none was recorded."""
        return dict(self.provenance.get("accuracy", {}))

    def replace(self, **changes: Any) -> Self:
        """A copy with other fields."""
        return replace(self, **changes)


def check_binary(
    labels: Mapping[str, tuple[str, ...]], binary: Mapping[str, BinaryAttribute], where: str | Path
) -> None:
    """Checks that binary attributes are made of labels and values that exist.

    Args:
        where: named in errors.

    Raises:
        LsapError: a label or value is unknown, a side is empty, or a value is on both sides.
    """
    for name, (label, positive, negative) in binary.items():
        if label not in labels:
            raise LsapError(f"{where}: attribute {name} has the unknown label {label!r}; use {', '.join(labels)}")
        unknown = [value for value in (*positive, *negative) if value not in labels[label]]
        if unknown:
            raise LsapError(
                f"{where}: attribute {name}: label {label} has no value {unknown[0]!r}; use {', '.join(labels[label])}"
            )
        if not positive or not negative or set(positive) & set(negative):
            raise LsapError(
                f"{where}: attribute {name} has the sides {positive} and {negative}; both need values, and no value "
                "may be on both"
            )


def attributes_config(header: Mapping[str, Any]) -> AttributesConfig:
    """The configuration of the network from a file's header.

    Raises:
        ValueError, TypeError: see `bounds.checked`.
    """
    own = checked(AttributesHeader, header)
    return AttributesConfig(labels=own.labels, resolution=own.resolution, channels=own.channels, widths=own.widths)


def attributes_of(
    config: AttributesConfig, params: Mapping[str, Any], header: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Attributes:
    """The classifier from the parts of a file.

    Raises:
        LsapError: see `check_binary`.
    """
    binary = {name: BinaryAttribute.of(parts) for name, parts in header["binary"].items()}
    check_binary(dict(config.labels), binary, "its header")
    return Attributes(config=config, params=jax.device_put(params), binary=binary, provenance=dict(provenance))


def attributes_header(attributes: Attributes) -> dict[str, Any]:
    """The header of a classifier's file."""
    binary = {name: attribute._asdict() for name, attribute in attributes.binary.items()}
    return {**asdict(attributes.config), "binary": binary}


@partial(jax.jit, static_argnums=0)
def _logits(config: AttributesConfig, params: Mapping[str, Any], levels: jax.Array) -> dict[str, jax.Array]:
    images = levels.astype(jnp.float32) / 127.5 - 1
    return AttributesNetwork(config).apply({"params": params}, images)  # type: ignore[return-value]


def label_logits(attributes: Attributes, images: np.ndarray) -> dict[str, np.ndarray]:
    """Logits {label: [N, K] float32} of the K values of each label, in the order of `attributes.labels`.

    Args:
        images: [N, R, R, C], uint8, or float in [-1, 1] (clipped and rounded to 256 levels, so that a
            picture and its file give the same result).

    Raises:
        LsapError: images of another shape or type, or floats that are not finite.
    """
    own, images = attributes.config, np.asarray(images)
    wanted = (own.resolution, own.resolution, own.channels)
    if images.ndim != 4 or images.shape[1:] != wanted or not len(images):
        raise LsapError(
            f"this attribute classifier judges images [N, {', '.join(map(str, wanted))}], got {images.shape}"
        )
    if images.dtype != np.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise LsapError(f"attributes are judged on uint8 images or floats in [-1, 1], got {images.dtype}")
    try:
        levels = images if images.dtype == np.uint8 else to_uint8(images)
    except ValueError as error:
        raise LsapError(f"{error}; leave such images out") from error
    found = []
    for start in range(0, len(levels), BATCH):
        chunk = levels[start : start + BATCH]
        padded = np.concatenate([chunk, np.zeros((BATCH - len(chunk), *wanted), np.uint8)])
        logits = _logits(own, attributes.params, jnp.asarray(padded))
        found.append({name: np.asarray(a)[: len(chunk)] for name, a in logits.items()})
    return {name: np.concatenate([part[name] for part in found]) for name, _ in own.labels}


def label_probabilities(attributes: Attributes, images: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities {label: [N, K] float32} of the K values of each label, in the order of `attributes.labels`.

    Args:
        images: see `label_logits`.

    Raises:
        LsapError: see `label_logits`.
    """
    logits = label_logits(attributes, images)
    return {name: np.exp(a - _logsumexp(a)[:, None], dtype=np.float32) for name, a in logits.items()}


def attribute_scores(attributes: Attributes, images: np.ndarray) -> dict[str, np.ndarray]:
    """Log-odds {name: [N] float32} of the binary attributes: above 0 the positive side is likelier.

    They are logsumexp(logits of the positive values) - logsumexp(logits of the negative values), in nats. They are
    unbounded, so they still measure the strength of an edit where a probability is saturated at 1.

    Args:
        images: see `label_logits`.

    Raises:
        LsapError: see `label_logits`.
    """
    return scores_of(attributes, label_logits(attributes, images))


def scores_of(attributes: Attributes, logits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`attribute_scores` from the logits of `label_logits`."""
    labels = attributes.labels

    def side(label: str, values: tuple[str, ...]) -> np.ndarray:
        return _logsumexp(logits[label][:, [labels[label].index(value) for value in values]])

    return {
        name: side(label, positive) - side(label, negative)
        for name, (label, positive, negative) in attributes.binary.items()
    }


def label_accuracies(attributes: Attributes, images: np.ndarray, labels: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Label -> share of the images whose likeliest value is the true one.

    Args:
        images: see `label_logits`.
        labels: name -> true values [N] as text, for each label of the classifier.

    Raises:
        LsapError: see `label_logits`; or a label is missing.
    """
    logits = label_logits(attributes, images)
    missing = [name for name in logits if name not in labels]
    if missing:
        raise LsapError(f"no true values of label {missing[0]!r}; give the values of {', '.join(logits)}")
    right = {name: np.asarray(attributes.labels[name])[a.argmax(axis=1)] == labels[name] for name, a in logits.items()}
    return {name: float(np.mean(a)) for name, a in right.items()}


def _logsumexp(x: np.ndarray) -> np.ndarray:
    """log(Σ exp(x)) of [N, K] over K."""
    most = x.max(axis=1)
    return most + np.log(np.exp(x - most[:, None]).sum(axis=1))
