"""Files as users of other tools have them, from a folder that is not part of a user's checkout."""

import numpy as np
import pytest

import convert_weights
from convert_weights import ConversionError
from lsap_jax.editing.imported import load_directions
from lsap_jax.inversion.start import read_start

WHOLE = ["wrapped_names/nvlabs_ddp.pt", "wrapped_names/nvlabs_under_g_ema.pt", "wrapped_names/rosinality_ddp.pt"]


@pytest.fixture
def case(shared_file):
    return lambda name: shared_file(f"cases/{name}")


@pytest.mark.parametrize("name", [*WHOLE, "extra_entries/running_mean.pt"])
def test_wrapped_generators_are_converted(case, name):
    checkpoint = convert_weights.read(case(name))
    assert checkpoint.kind == "generator" and checkpoint.parts["generator"].config["img_resolution"] == 16
    noted = any("was found under" in note for note in checkpoint.notes)
    assert noted == (name in WHOLE) and bool(checkpoint.ignored) == (name not in WHOLE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("rgba_generator/rgba.pt", "4 channels .RGB with alpha"), ("sefa_factor_file/factor.pt", "holds directions")],
)
def test_what_cannot_be_converted_says_what_it_is(case, name, reason):
    with pytest.raises(ConversionError, match=reason):
        convert_weights.read(case(name))


def test_directions(case):
    (age,) = load_directions(case("boundary_as_dict/age_w_boundary.npy")).values()
    assert (age.space, age.layers, age.vector.shape) == ("w", (0, 1, 2, 3), (128,))
    (smile,) = load_directions(case("direction_with_equal_rows/smile.npy"), space="w").values()
    assert smile.vector.shape == (18, 128)
    factors = load_directions(case("sefa_factor_file/factor.pt"))
    assert list(factors)[:2] == ["factor-0", "factor-1"] and len(factors) == 128
    np.testing.assert_allclose(np.linalg.norm(factors["factor-5"].vector), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"), [("projector.pt", (1, 128)), ("latents.npy", (10, 128)), ("embeddings/a/0.pt", (10, 128))]
)
def test_codes(case, name, shape):
    path = case(f"codes_of_other_tools/{name}")
    path = path.parent.parent if name.startswith("embeddings") else path
    kind, found = read_start(path, ["a"], "w")
    assert kind == "w" and found["a"]["w"].shape == shape
