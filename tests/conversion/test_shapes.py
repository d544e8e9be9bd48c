"""Full-size networks: the tables map every published name and shape, without a byte of weights."""

import json
import re

import numpy as np
import pytest

from convert_weights import basecode, genforce, nvlabs, perceptual, rosinality, stylegan2
from convert_weights.checkpoint import ConversionError
from convert_weights.match import match
from convert_weights.tensors import Tensor


@pytest.fixture(scope="module")
def published(shared_file):
    return json.loads(shared_file("facts/checkpoint_shapes.json").read_text())


def weightless(shapes):
    """Tensors that fail when anybody reads them."""

    def load():
        raise AssertionError("weights were read")

    return {n: Tensor(tuple(s), "float32", load) for n, s in shapes.items()}


def mapped(shapes, rules, what="network"):
    found, ignored = match(weightless(shapes), rules, what)
    return {n: m.shape for n, m in found.items()}, ignored


def canonical(shapes):
    return {n: tuple(s) for n, s in shapes.items() if not n.endswith("resample_filter")}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("nv_G_1024_base32768_map8", (1024, 8, 0, [512] * 5 + [256, 128, 64, 32])),
        ("nv_G_256_paper256_base16384_map8", (256, 8, 0, [512] * 4 + [256, 128, 64])),
        ("nv_G_32_cifar_cond_map2", (32, 2, 10, [512] * 4)),
    ],
)
def test_generators_of_nvlabs(published, name, facts):
    shapes, _ = mapped(published[name], nvlabs.GENERATOR_RULES)
    config = stylegan2.generator_config(shapes)
    assert (config["img_resolution"], config["mapping_layers"], config["c_dim"], config["channels"]) == facts
    assert stylegan2.generator_shapes(config) == shapes == canonical(published[name])


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("nv_D_1024_resnet", ("resnet", 0, 0)),
        ("nv_D_256_base16384_resnet", ("resnet", 0, 0)),
        ("nv_D_32_cifar_cond_orig", ("orig", 512, 8)),
    ],
)
def test_discriminators_of_nvlabs(published, name, facts):
    shapes, _ = mapped(published[name], nvlabs.DISCRIMINATOR_RULES)
    config = stylegan2.discriminator_config(shapes)
    assert (config["architecture"], config["cmap_dim"], config["mapping_layers"]) == facts
    assert stylegan2.discriminator_shapes(config) == shapes == canonical(published[name])


def test_rosinality_becomes_the_names_and_shapes_of_nvlabs(published):
    shapes, _ = mapped(published["rosinality_G_1024_mult2"] | {"latent_avg": [512]}, rosinality.GENERATOR_RULES)
    assert shapes == canonical(published["nv_G_1024_base32768_map8"])
    small, _ = mapped(published["rosinality_G_256_mult2"] | {"latent_avg": [512]}, rosinality.GENERATOR_RULES)
    assert stylegan2.generator_shapes(stylegan2.generator_config(small)) == small


def test_genforce_becomes_the_names_and_shapes_of_nvlabs(published):
    shapes, _ = mapped(published["genforce_stylegan2_1024"], genforce.GENERATOR_RULES)
    assert shapes == canonical(published["nv_G_1024_base32768_map8"])


class Read(Exception):
    pass


def _readable(shapes):
    """Tensors of zeros that take no memory and kernels with their true values."""
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64

    def load(name, shape):
        if name.endswith("kernel"):
            return taps.reshape(shape)
        raise Read

    return {n: Tensor(tuple(s), "float32", lambda n=n, s=s: load(n, s)) for n, s in shapes.items()}


@pytest.mark.parametrize(
    ("name", "dialect"), [("rosinality_D_256_mult2", rosinality), ("genforce_stylegan2_D_256", genforce)]
)
def test_foreign_discriminators_fit_before_any_weight_is_read(published, name, dialect):
    with pytest.raises(Read):
        dialect.discriminator(_readable(published[name]), "d")
    shapes = dict(published[name])
    odd = next(n for n in shapes if re.search(r"(final_conv\.0|layer12)\.weight", n))
    shapes[odd] = [512, 512, 1, 1]
    with pytest.raises(ConversionError, match=re.escape(odd)):
        dialect.discriminator(_readable(shapes), "d")


def test_perceptual_tables_are_those_of_the_reference(golden):
    for name, file in (("vgg16", "lpips_vgg"), ("alexnet", "lpips_alex"), ("squeezenet1_1", "lpips_squeeze")):
        published = {n: tuple(s) for n, s, _ in json.loads(bytes(golden(file)["meta_json"]))["tensors"]}
        assert perceptual.BACKBONES[name] == published


def test_base_code_encoder_has_the_published_size():
    shapes = basecode.encoder_shapes({"widths": [128, 256, 512], "out_channels": 512, "in_channels": 3})
    learned = {n: s for n, s in shapes.items() if "running" not in n}
    assert sum(int(np.prod(s)) for s in learned.values()) == 12_399_872
    assert shapes["model.10.weight"] == (256, 128, 3, 3) and shapes["model.33.weight"] == (512, 512, 3, 3)
    batch_norms = {int(n.split(".")[1]) for n in shapes if "running_mean" in n}
    assert batch_norms == {1, 4, 7, 11, 14, 17, 21, 24, 27, 31}
