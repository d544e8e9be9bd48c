"""The table of terms: who is evaluated, what is refused, and that a new term is a function and a row."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.inversion.objective import objective_from_config, terms
from lsap_jax.losses import judges as judging
from lsap_jax.losses.judges import JUDGES, Judged, Networks, make_judges
from lsap_jax.losses.terms import TERMS, Targets, Term, judged
from lsap_jax.networks.view import square
from lsap_jax.runs.run import describe
from lsap_jax.spaces import parse_space
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

COUNT = 3


def test_every_weight_of_the_configurations_has_a_term():
    assert set(load_config("f/z+").loss) == set(TERMS)


@pytest.mark.parametrize(
    ("space", "weights", "with_judge", "expected"),
    [
        ("z+", {}, True, ["mse", "perceptual"]),
        ("z+", {"perceptual": 0.0, "mse": 0.0}, True, ["mse", "perceptual"]),
        ("z+", {}, False, ["mse"]),
        ("f/w+", {"delta": 0.1, "nscd": 0.5}, False, ["mse", "base", "nscd", "delta"]),
        ("s", {"nscd": 0.5}, False, ["mse", "nscd"]),
        ("w", {"pn": 0.1, "w_norm": 0.1, "noise": 1.0}, False, ["mse", "pn", "w_norm", "noise"]),
    ],
)
def test_terms_are_evaluated_in_the_order_of_the_table(tiny, space, weights, with_judge, expected):
    config = load_config("f/z+", {f"loss.{name}": weight for name, weight in weights.items()})
    space = parse_space(
        space,
        base_resolution=4 if space.startswith("f/") else 0,
        noise_sides=tuple(tiny.config.noise_layers.values()) if "noise" in weights else (),
    )
    objective = objective_from_config(config, space)
    assert objective.needs_statistics == any(weights.get(name, 0) > 0 for name in ("pn", "nscd"))
    f0 = jnp.zeros((COUNT, 4, 4, 8)) if space.has_base else None
    networks = Networks(generator=tiny, judges={"perceptual": Mean()} if with_judge else {})
    images = jnp.asarray(tiny_images(COUNT) / 127.5 - 1, jnp.float32)
    targets = Targets(images=images, seen={name: j.features(images) for name, j in networks.judges.items()}, f0=f0)

    names = []

    @jax.jit
    def found(networks, rng, targets):
        values = terms(objective, networks, space, space.init(networks.generator, rng, f0), targets)
        names.extend(values)  # jit sorts them
        return values

    values = found(networks, jax.random.split(jax.random.key(0), COUNT), targets)
    assert names == expected
    assert all(value.shape == (COUNT,) and np.isfinite(value).all() for value in values.values())


def test_a_weight_without_a_term_is_refused():
    config = load_config("z")
    with config.unlocked():
        config.loss.smoothness = 1.0
    with pytest.raises(LsapError, match="loss.smoothness=1.0: there is no such term; the terms are mse, perceptual"):
        objective_from_config(config, parse_space("z"))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mean:
    """A judge that looks at mean colours at 8 px."""

    weight: Any = 2.0
    name = "mean_colour"
    resolution = 8
    description = "squared difference of mean colours"
    blackens = False

    def features(self, images):
        return self.weight * images.mean(axis=(1, 2))

    def distance(self, a, b, mask=None):
        return jnp.square(a - b).sum(axis=1)

    def freeze(self, side, winograd=0):
        return self


def test_a_term_with_a_network_is_a_function_and_two_rows(tiny, monkeypatch, tmp_path):
    """As an identity term would be added: no signature of the inversion knows of it."""

    def made(config, G):
        if not config.loss.get("colour", 0.0):
            return None
        return Judged(
            judge=Mean(), record={"network": "mean_colour"}, files={"perceptual.weights": "colour.safetensors"}
        )

    monkeypatch.setitem(TERMS, "colour", Term(name="colour", value=judged("colour"), judge="colour"))
    monkeypatch.setitem(JUDGES, "colour", made)
    images, found = tiny_images(2), {}
    for weight in (0.0, 50.0):
        config = load_config("w+", {"steps": 20, "chunk": 21, "batch_size": 2, "perceptual.network": "none"})
        with config.unlocked():
            config.loss.colour = weight
        inverter = Inverter(tiny, config)
        found[weight] = inverter([Job(id=str(i), image=image) for i, image in enumerate(images)])
        record = describe(tiny, inverter, "tiny", None)
        assert ("colour" in record) == ("mean_colour" in record["metrics"]) == (weight > 0)
        assert inverter.layout.seen_by == ({"colour": square(8)} if weight else {})
    assert make_judges(config, tiny)["colour"].files == {"perceptual.weights": "colour.safetensors"}
    for plain, coloured in zip(found[0.0], found[50.0], strict=True):
        assert "colour" not in plain.curve and "mean_colour" not in plain.metrics
        total = config.loss.mse * coloured.curve["mse"] + 50 * coloured.curve["colour"]
        np.testing.assert_allclose(coloured.curve["loss"], total, rtol=1e-4)
        assert coloured.curve["colour"][-1] < 0.9 * coloured.curve["colour"][0]
        assert coloured.metrics["mean_colour"] >= 0


def test_columns_of_judges():
    assert judging.column(Mean()) == "mean_colour"
