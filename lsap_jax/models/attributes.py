"""What an image shows, by a classifier of its labels: for a generator whose attributes have exact ground truth.

An edit is to change one attribute and leave the others: `attribute_scores` says how far an image is to one side of an
attribute with two, `label_probabilities` how likely each value of each label is.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.networks.attributes import AttributesConfig, AttributesNetwork, param_shapes
from lsap_jax.pixels import to_uint8
from lsap_jax.storage import weights_file

KIND = "attributes"
BUNDLED = "toonhead64"
BATCH = 64  # images at once, always: one program runs them all
_REMEDY = "train one with `lsap-jax train-attributes`"


class BinaryAttribute(NamedTuple):
    """Values of a label on two sides; values on neither side say nothing about it."""

    label: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Self:
        """From {"label", "positive", "negative"}, as configurations and files hold it."""
        return cls(str(parts["label"]), tuple(parts["positive"]), tuple(parts["negative"]))


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """A classifier with its weights and what they mean.

    Attributes:
        config: shape of the network, with its labels.
        params: of `AttributesNetwork`.
        binary: attributes with two sides, by name.
        provenance: how it came about: "accuracy" {label: held-out accuracy}, "heldout", "generator" and others.
    """

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
        """Label -> share of held-out images that it is right about; empty where none was recorded."""
        return dict(self.provenance.get("accuracy", {}))

    def replace(self, **changes: Any) -> Self:
        """A copy with other fields."""
        return replace(self, **changes)


def check_binary(
    labels: Mapping[str, tuple[str, ...]], binary: Mapping[str, BinaryAttribute], where: str | Path
) -> None:
    """Attributes with two sides are made of values that there are.

    Args:
        where: named in errors.

    Raises:
        LsapError: an unknown label or value, an empty side, or a value on both.
    """
    for name, (label, positive, negative) in binary.items():
        if label not in labels:
            raise LsapError(f"{where}: attribute {name} is of label {label!r}; there are {', '.join(labels)}")
        unknown = [value for value in (*positive, *negative) if value not in labels[label]]
        if unknown:
            raise LsapError(f"{where}: attribute {name}: {label} is never {unknown[0]!r} ({', '.join(labels[label])})")
        if not positive or not negative or set(positive) & set(negative):
            raise LsapError(
                f"{where}: attribute {name} has the sides {positive} and {negative}; both need values, and none is on "
                "both"
            )


def save_attributes(path: str | Path, attributes: Attributes) -> str:
    """Write one safetensors file for `load_attributes`; returns the digest of its tensors."""
    arrays = {"/".join(place): np.asarray(leaf) for place, leaf in flatten_dict(dict(attributes.params)).items()}
    config = {
        **asdict(attributes.config),
        "binary": {name: attribute._asdict() for name, attribute in attributes.binary.items()},
    }
    provenance = {k: v for k, v in attributes.provenance.items() if k != "sha256"}
    return weights_file.write_weights(path, KIND, arrays, config, provenance)


def load_attributes(path: str | Path | None = None, G: Generator | None = None) -> Attributes:
    """Classifier of a file of `save_attributes`, its digest checked.

    Args:
        path: the file; "toonhead64" is the bundled one, and so is None, but only for the generator that it is for.
        G: whose images are to be judged, where there is one.

    Raises:
        LsapError: there is no such file, it is damaged or holds something else, or it does not fit G.
    """
    file = Path(str(resources.files("lsap_jax") / "assets")) / f"{BUNDLED}.attributes.safetensors"
    if path is not None and str(path) != BUNDLED:
        file = Path(path)
    if not file.is_file():
        raise LsapError(f"{file}: no such file; give a classifier's file with --attributes, or {_REMEDY}")
    if not weights_file.is_weights_file(file):
        raise LsapError(f"{file}: not a file of this package; {_REMEDY}")
    kind, arrays, config, provenance = weights_file.read_weights(file)
    if kind != KIND:
        raise LsapError(f"{file}: holds {kind!r} weights, not an attribute classifier; {_REMEDY}")
    try:
        found = _from_file(arrays, config, provenance, file)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LsapError(f"{file}: its header and its tensors do not belong together ({error}); {_REMEDY}") from error
    if G is not None:
        _check_generator(found, G, file, bundled=path is None)
    return found


def _from_file(
    arrays: Mapping[str, np.ndarray], header: Mapping[str, Any], provenance: Mapping[str, Any], file: Path
) -> Attributes:
    config = AttributesConfig(
        labels=tuple((str(name), tuple(map(str, values))) for name, values in header["labels"]),
        resolution=int(header["resolution"]),
        channels=int(header["channels"]),
        widths=tuple(map(int, header["widths"])),
    )
    wanted = {"/".join(place): tuple(leaf.shape) for place, leaf in flatten_dict(param_shapes(config)).items()}
    wrong = sorted(n for n in wanted.keys() | arrays.keys() if n not in arrays or wanted.get(n) != arrays[n].shape)
    if wrong:
        name = wrong[0]
        shape = arrays[name].shape if name in arrays else None
        raise ValueError(f"{name} is {shape}, its configuration asks for {wanted.get(name)}")
    binary = {name: BinaryAttribute.of(parts) for name, parts in header["binary"].items()}
    check_binary(dict(config.labels), binary, file)
    params = unflatten_dict({tuple(name.split("/")): jnp.asarray(a) for name, a in arrays.items()})
    return Attributes(config=config, params=params, binary=binary, provenance=provenance)


def _check_generator(attributes: Attributes, G: Generator, file: Path, bundled: bool) -> None:
    own = attributes.config
    if (own.resolution, own.channels) != (G.img_resolution, G.img_channels):
        raise LsapError(
            f"{file}: judges images of {own.resolution} px and {own.channels} channels, the generator makes "
            f"{G.img_resolution} px and {G.img_channels}; give its own classifier with --attributes, or {_REMEDY}"
        )
    if not bundled:
        return
    wanted, digest = (attributes.provenance.get("generator") or {}).get("sha256"), G.network_sha256
    if wanted != digest:
        raise LsapError(
            f"the bundled attribute classifier is for {BUNDLED} (weights of SHA-256 {str(wanted)[:16]}…), not for this "
            f"generator ({digest[:16]}…); give its own with --attributes, --attributes={BUNDLED} where its images are "
            f"of the same kind, or {_REMEDY}"
        )


@partial(jax.jit, static_argnums=0)
def _logits(config: AttributesConfig, params: Mapping[str, Any], levels: jax.Array) -> dict[str, jax.Array]:
    images = levels.astype(jnp.float32) / 127.5 - 1
    return AttributesNetwork(config).apply({"params": params}, images)  # type: ignore[return-value]


def label_logits(attributes: Attributes, images: np.ndarray) -> dict[str, np.ndarray]:
    """Logits {label: [N, K] float32} of the K values of each label, in the order of `attributes.labels`.

    Args:
        images: [N, R, R, C], uint8, or float in [-1, 1] (clipped and rounded to 256 levels: a picture and its file are
            judged alike).

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
    """Log-odds {name: [N] float32} of the attributes with two sides: above 0 the positive one is likelier.

    They are logsumexp(logits of the positive values) - logsumexp(logits of the negative values), in nats: without
    bounds, so that they still tell an edit's strength where a probability is 1.

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
        labels: true values [N] as text, of each label of the classifier.

    Raises:
        LsapError: see `label_logits`; or a label is missing.
    """
    logits = label_logits(attributes, images)
    missing = [name for name in logits if name not in labels]
    if missing:
        raise LsapError(f"no true values of label {missing[0]!r}; give those of {', '.join(logits)}")
    right = {name: np.asarray(attributes.labels[name])[a.argmax(axis=1)] == labels[name] for name, a in logits.items()}
    return {name: float(np.mean(a)) for name, a in right.items()}


def _logsumexp(x: np.ndarray) -> np.ndarray:
    """Of [N, K] over K."""
    most = x.max(axis=1)
    return most + np.log(np.exp(x - most[:, None]).sum(axis=1))
