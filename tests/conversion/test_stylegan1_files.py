"""StyleGAN1 in the names of NVIDIA's pickles, GenForce, InterFaceGAN and IDInvert; what is refused, and why."""

import json

import foreign_dialects as dialects
import foreign_files as files
import foreign_stylegan1 as stylegan1
import numpy as np
import pytest
from foreign_stylegan1 import pickled

import convert_weights
from convert_weights import ConversionError, genforce_stylegan1, idinvert, tensorflow_stylegan1
from convert_weights import stylegan1 as canonical
from convert_weights.match import match
from convert_weights.tensors import Tensor

SMALL = stylegan1.random_generator()
LARGE = stylegan1.random_generator(channels=(2,) * 6)  # 128 px: layer 10 is the first that is fused
INSIDE = {  # GenForce's names of a layer -> canonical
    "weight": "weight",
    "const": "const",
    "bias": "bias",
    "apply_noise.weight": "noise_strength",
    "apply_noise.noise": "noise_const",
    "style.weight": "affine.weight",
    "style.bias": "affine.bias",
}


@pytest.fixture
def read(tmp_path):
    def run(data):
        (tmp_path / "weights").write_bytes(data)
        return convert_weights.read(tmp_path / "weights")

    return run


def torch_file(sd, key="generator_smooth"):
    state = dialects.state_dict(sd)
    return files.torch_zip({key: state} if key else state)


def expected(sd):
    """Canonical name -> array of weights in GenForce's names, kernels as they are."""
    found = {"mapping.w_avg": sd["truncation.w_avg"]}
    last = max(int(name.split(".")[1][6:]) for name in sd if name.startswith("synthesis.output"))
    for name, a in sd.items():
        head, layer, *rest = name.split(".")
        if head == "mapping":
            found["mapping.embed" if not rest else f"mapping.fc{layer[5:]}.{rest[0]}"] = a
        elif layer.startswith("layer") and (part := ".".join(rest)) in INSIDE:
            at = "synthesis.b4" if part == "const" else "synthesis.b{}.conv{}".format(*divmod_layer(int(layer[5:])))
            found[f"{at}.{INSIDE[part]}"] = a[0] if part == "const" else a[0, 0] if a.ndim == 4 and len(a) == 1 else a
        elif layer == f"output{last}":
            found[f"synthesis.{rest[0]}"] = a
    return found


def divmod_layer(k):
    return 4 * 2 ** (k // 2), k % 2


FILES = {
    "GenForce": torch_file(SMALL),
    "GenForce, plain": torch_file(SMALL, "generator"),
    "InterFaceGAN": torch_file(stylegan1.interfacegan(SMALL), ""),
    "IDInvert": torch_file(stylegan1.idinvert(SMALL), ""),
    "NVIDIA": pickled(SMALL, resolution=16, num_channels=3, label_size=0, structure="auto"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_dialect_gives_the_same_arrays(read, name):
    checkpoint = read(FILES[name])
    assert list(checkpoint.parts) == ["generator"] and "StyleGAN1" in checkpoint.format
    part, wanted = checkpoint.parts["generator"], expected(SMALL)
    assert part.arrays.keys() == wanted.keys() == canonical.generator_shapes(part.config).keys()
    for key, array in part.arrays.items():
        np.testing.assert_array_equal(array, wanted[key], err_msg=key)
        assert array.dtype == np.float32 and array.flags.c_contiguous
    assert part.config == {
        "family": "stylegan1",
        "z_dim": 3,
        "c_dim": 0,
        "w_dim": 4,
        "img_resolution": 16,
        "img_channels": 3,
        "mapping_layers": 2,
        "layer_features": 7,
        "embed_features": 0,
        "mapping_lr_multiplier": 0.01,
        "w_avg_beta": 0.995,
        "channels": [6, 5, 4],
        "repeat_w": True,
        "tanh": name == "IDInvert",
        "use_noise": True,
    }


def test_labels_and_rows_of_the_mapping(read):
    weights = stylegan1.random_generator(classes=5)
    for data in (torch_file(weights), pickled(weights)):
        part = read(data).parts["generator"]
        assert (part.config["c_dim"], part.config["z_dim"], part.config["embed_features"]) == (5, 3, 3)
        np.testing.assert_array_equal(part.arrays["mapping.embed"], weights["mapping.label_weight"])
    part = read(torch_file(stylegan1.random_generator(rows=6))).parts["generator"]
    assert part.config["tanh"] and not part.config["repeat_w"] and part.arrays["mapping.fc1.bias"].shape == (24,)


def transposed(x, w):
    """GenForce's fused layer: x [I, H, H] by a transposed convolution with the four shifts of w [O, I, 3, 3]."""
    k = np.pad(w, ((0, 0), (0, 0), (1, 1), (1, 1)))
    k = k[:, :, 1:, 1:] + k[:, :, :-1, 1:] + k[:, :, 1:, :-1] + k[:, :, :-1, :-1]
    side = x.shape[1]
    out = np.zeros((len(w), 2 * side + 2, 2 * side + 2))
    for i in range(side):
        for j in range(side):
            out[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("oihw,i->ohw", k, x[:, i, j])
    return out[:, 1:-1, 1:-1]


def nearest(x, w):
    """Nearest-neighbour upsampling, then a convolution with w [O, I, 3, 3]."""
    x = np.pad(x.repeat(2, 1).repeat(2, 2), ((0, 0), (1, 1), (1, 1)))
    side = x.shape[1] - 2
    return sum(
        np.einsum("oi,ihw->ohw", w[:, :, a, b], x[:, a : a + side, b : b + side]) for a in range(3) for b in range(3)
    )


FUSED = {
    "GenForce": torch_file(LARGE),
    "InterFaceGAN": torch_file(stylegan1.interfacegan(LARGE, fused=(10,)), ""),
    "IDInvert": torch_file(stylegan1.idinvert(LARGE, fused=(10,)), ""),
    "NVIDIA": pickled(LARGE),
    "NVIDIA, auto": pickled(LARGE, fused_scale="auto"),
}


@pytest.mark.parametrize("name", FUSED)
def test_kernels_of_fused_layers_are_turned(read, name):
    arrays, wanted = read(FUSED[name]).parts["generator"].arrays, expected(LARGE)
    kernel, x = arrays["synthesis.b128.conv0.weight"], np.random.RandomState(0).standard_normal((2, 5, 5))
    np.testing.assert_allclose(nearest(x, kernel), transposed(x, LARGE["synthesis.layer10.weight"]), atol=1e-6)
    for key in ("synthesis.b64.conv0.weight", "synthesis.b128.conv1.weight"):
        np.testing.assert_array_equal(arrays[key], wanted[key])


@pytest.mark.parametrize(("fused", "turned"), [(True, (8, 16)), (False, ())])
def test_files_may_say_which_layers_are_fused(read, fused, turned):
    wanted, layers = expected(SMALL), {8: 2, 16: 4}
    older = stylegan1.interfacegan(SMALL, fused=[layers[side] for side in turned])
    for data in (pickled(SMALL, fused_scale=fused), torch_file(older)):
        arrays = read(data).parts["generator"].arrays
        for side in layers:
            kernel = wanted[f"synthesis.b{side}.conv0.weight"]
            kernel = kernel[:, :, ::-1, ::-1] if side in turned else kernel
            np.testing.assert_array_equal(arrays[f"synthesis.b{side}.conv0.weight"], kernel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("synthesis.layer3.weight"), r"missing synthesis\.b8\.conv1\.weight"),
        (lambda s: s.pop("synthesis.output2.bias"), r"missing synthesis\.bias"),
        (lambda s: s.pop("truncation.w_avg"), r"missing mapping\.w_avg"),
        (
            lambda s: s.update({"synthesis.layer2.gain": np.ones(2, np.float32)}),
            r"unknown tensors synthesis\.layer2\.gain",
        ),
        (lambda s: s.update({"synthesis.layer3.bias": np.ones(4, np.float32)}), r"layer3\.bias is \[4\], not \[5\]"),
        (lambda s: s.update({"synthesis.layer3.bias": np.full(5, np.nan, np.float32)}), r"layer3\.bias holds values"),
        (lambda s: s.update({"synthesis.lod": np.float32([1.5])}), "still growing; use a later snapshot"),
        (lambda s: s.update({"synthesis.lod": np.zeros(0, np.float32)}), r"its lod has shape \[0\], not \[\]"),
        (lambda s: s.update({"synthesis.layer2.blur.kernel": s["synthesis.layer2.blur.kernel"] * 2}), "not the blur"),
        (lambda s: s.update({"mapping.dense0.weight": s["mapping.dense0.weight"].astype(np.int64)}), "type int64"),
        (lambda s: s.update({"synthesis.output2.weight": s["synthesis.output2.weight"][:2]}), "grey with alpha"),
    ],
)
@pytest.mark.parametrize("key", ["generator_smooth", ""])
def test_tensors_that_do_not_fit_are_refused(read, change, message, key):
    weights = dict(SMALL)
    change(weights)
    with pytest.raises(ConversionError, match=message):
        read(torch_file(weights, key))


def test_a_mean_for_each_row_is_refused(read):
    weights = stylegan1.random_generator(rows=6)
    with pytest.raises(ConversionError, match="one for each layer, which is not supported"):
        read(torch_file(weights | {"truncation.w_avg": np.ones(24, np.float32)}))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"use_instance_norm": False}, "use_instance_norm=False, StyleGAN1 has True"),
        ({"blur_filter": [1, 3, 3, 1]}, r"blur_filter=\[1, 3, 3, 1\], StyleGAN1 has \[1, 2, 1\]"),
        ({"fused_scale": "never"}, "fused_scale never"),
        ({"fused_scale": [1]}, "fused_scale"),
        ({"novelty": 3}, "unknown argument novelty"),
        ({"resolution": 32}, "states img_resolution 32 but its tensors have 16"),
    ],
)
def test_arguments_of_other_networks_are_refused(read, kwargs, message):
    with pytest.raises(ConversionError, match=message):
        read(pickled(SMALL, **kwargs))


def test_arguments_of_a_pickle(read):
    facts = {"mapping_lrmul": 0.02, "dlatent_avg_beta": None, "use_styles": True, "truncation_psi": 0.7}
    config = read(pickled(SMALL, **facts, blur_filter=[1, 2, 1], fmap_base=64)).parts["generator"].config
    assert config["mapping_lr_multiplier"] == 0.02 and config["w_avg_beta"] == 1


def test_a_growing_pickle_is_refused(read):
    with pytest.raises(ConversionError, match=r"Gs has lod 1\.5: the network was still growing"):
        read(pickled(SMALL | {"synthesis.lod": np.float32(1.5)}))


def test_discriminators_are_listed_as_ignored(read):
    assert "discriminators of StyleGAN1" in read(FILES["NVIDIA"]).ignored["D/*"]
    critic = {"input0.weight": np.ones((2, 3, 1, 1), np.float32)}
    data = files.torch_zip(
        {"generator_smooth": dialects.state_dict(SMALL), "discriminator": dialects.state_dict(critic)}
    )
    checkpoint = read(data)
    assert list(checkpoint.parts) == ["generator"]
    assert any("discriminators of StyleGAN1 are not supported" in note for note in checkpoint.notes)
    assert "discriminator/*" in checkpoint.ignored


ENCODER = {"num_ws": 6, "w_dim": 4, "widths": [2, 3, 3], "in_channels": 3}


def encoder(config):
    """Random weights of IDInvert's encoder in its own names."""
    rng, found = np.random.RandomState(1), {}
    for name, shape in idinvert.encoder_shapes(config).items():
        block, layer, *rest = name.split(".")
        if layer.startswith("bn"):
            name = f"{block}.{layer}.bn.{rest[0]}"
        elif rest == ["bias"]:
            name = f"{block}.wscale{layer[4:]}.bias"
        found[name] = np.abs(rng.standard_normal(shape)).astype(np.float32)
    return found


def test_an_encoder_beside_its_generator(read):
    weights = dialects.state_dict(stylegan1.idinvert(stylegan1.random_generator(rows=6)))
    checkpoint = read(
        files.torch_zip({"generator": weights, "encoder": dialects.state_dict(encoder(ENCODER)), "step": 3})
    )
    assert list(checkpoint.parts) == ["generator", "idinvert"] and "IDInvert" in checkpoint.format
    assert checkpoint.parts["idinvert"].config == ENCODER and not checkpoint.refused
    broken = encoder(ENCODER)
    broken.pop("block1.bn2.bn.bias")
    checkpoint = read(files.torch_zip({"generator": weights, "encoder": dialects.state_dict(broken)}))
    assert "missing block1.bn2.bias" in checkpoint.refused["idinvert"]


@pytest.mark.parametrize(
    ("table", "rows", "tanh"),
    [
        ("genforce_stylegan_256", False, False),
        ("genforce_stylegan_1024", False, False),
        ("interfacegan_stylegan_ffhq_1024", False, False),
        ("idinvert_styleganinv_256_generator", True, True),
        ("tf_Gs_256", False, False),
        ("tf_Gs_1024", False, False),
    ],
)
def test_published_names_and_shapes(shared_file, table, rows, tanh):
    names = json.loads(shared_file("facts/stylegan1_keys.json").read_text())[table]

    def load():
        raise AssertionError("weights were read")

    tensors = {name: Tensor(tuple(shape), "float32", load) for name, shape in names.items()}
    rules = tensorflow_stylegan1.rules(128) if table.startswith("tf") else genforce_stylegan1.rules(tensors)
    found, ignored = match(tensors, rules, "generator")
    config = canonical.generator_config({name: one.shape for name, one in found.items()})
    shapes = canonical.generator_shapes(config)
    assert {name: one.shape for name, one in found.items() if name in shapes} == shapes
    assert (config["repeat_w"], config["w_dim"], config["z_dim"]) == (not rows, 512, 512)
    assert len(found) + len(ignored) == len(names) and found.keys() <= shapes.keys() | {"mapping.w_avg"}
