"""Small encoders of pSp, e4e, LSAP and ReStyle with known weights, in the files of the projects that make them."""

import foreign_dialects as dialects
import foreign_files as files
import numpy as np

from lsap_jax.models.psp import PspEncoder, param_shapes
from lsap_jax.networks import styleres
from lsap_jax.networks.parameters import canonical
from lsap_jax.networks.psp import PspConfig
from lsap_jax.testing import random_leaves

WIDTHS = (16, 24, 32, 16)  # of units; each halves the sides, as a new width does in all of these trunks
IRSE = {"units": tuple((width, 2) for width in WIDTHS), "taps": (1, 2, 3)}
RESNET = {"trunk": "resnet34", "units": ((16, 1), (24, 2), (32, 2), (16, 2)), "taps": (1, 2, 3)}
# encoder_type of the original code: the encoder's configuration.
TYPES = {
    "GradualStyleEncoder": IRSE,
    "Encoder4Editing": {**IRSE, "progressive": True},
    "WEncoder": {**IRSE, "heads": "single", "taps": (6, 20, 23)},
    "BackboneEncoder": {**IRSE, "heads": "last", "taps": (6, 20, 23), "in_channels": 6, "passes": 3},
    "ProgressiveBackboneEncoder": {
        **IRSE, "heads": "last", "taps": (6, 20, 23), "in_channels": 6, "passes": 3, "progressive": True,
    },
    "ResNetProgressiveBackboneEncoder": {
        **RESNET, "heads": "last", "taps": (6, 20, 23), "in_channels": 6, "passes": 3, "progressive": True,
    },
    "ResNetGradualStyleEncoder": {**RESNET, "in_channels": 6, "passes": 3},
}  # fmt: skip
GENERATOR = dialects.random_generator((8, 8, 8), 16, 16, 2)  # 16 px, 6 rows of 16 numbers
CRITIC = {
    f"mlp.{k}.{name}": np.random.RandomState(k).standard_normal((width, 16)[: 1 + (name == "weight")]).astype("f4")
    for k, width in ((0, 16), (2, 16), (4, 16), (6, 1))
    for name in ("weight", "bias")
}


def encoder(encoder_type="Encoder4Editing", seed=0, **changes):
    """An encoder for `GENERATOR` as lsap_jax holds it, with random weights everywhere."""
    config = PspConfig(**{"num_ws": 6, "w_dim": 16, **TYPES[encoder_type], **changes})
    rng = np.random.default_rng(seed)

    def filled(tree, name=""):
        if isinstance(tree, dict):
            return {inner: filled(one, inner) for inner, one in tree.items()}
        drawn, fan_in = rng.standard_normal(tree.shape, np.float32), max(np.prod(tree.shape[:-1]), 4)
        return np.abs(drawn) + 0.5 if name == "running_var" else drawn / np.float32(np.sqrt(fan_in))

    params = filled(param_shapes(config))
    params["w_avg"] = np.tile(GENERATOR["mapping.w_avg"], (config.num_ws, 1))
    return PspEncoder(config=config, params=params)


def tensors(E):
    """Its state dict under the original names, counters of batches included."""
    named = {n.removeprefix("encoder."): a for n, a in canonical(E.params).items() if n.startswith("encoder.")}
    norms = [n.removesuffix("running_mean") for n in named if n.endswith("running_mean")]
    return named | {f"{n}num_batches_tracked": np.int64(7) for n in norms}


def decoder(weights=GENERATOR):
    return dialects.rosinality(weights)


def psp_file(E, encoder_type="Encoder4Editing", prefix="", weights=GENERATOR, **more):
    """The file that pSp, e4e, ReStyle and HyperStyle save; prefix: `module.` of data-parallel training."""
    state = {f"encoder.{prefix}{n}": a for n, a in tensors(E).items()}
    state |= {f"decoder.{n}": a for n, a in decoder(weights).items()}
    opts = {"encoder_type": encoder_type, "start_from_latent_avg": True, "output_size": 16, "n_iters_per_batch": 3}
    root = {"state_dict": dialects.state_dict(state), "latent_avg": files.T(E.params["w_avg"]), "opts": opts}
    return {name: value for name, value in (root | more).items() if value is not None}


def ganinverter_file(E, encoder_type="Encoder4Editing", prefix="", **more):
    state = {f"encoder.{prefix}{n}": a for n, a in tensors(E).items()} | {"latent_avg": E.params["w_avg"][0].copy()}
    parts = {"encoder": dialects.state_dict(state), "decoder": dialects.state_dict(decoder())}
    opts = {"encoder_type": encoder_type, "start_from_latent_avg": True, "resolution": 16, "layers": 50}
    return {**parts, "opts": opts, "global_step": 7, "best_val_loss": 0.5} | more


def styleres_file(E, **more):
    """StyleRes' file: names without prefixes, and its networks of residuals inside NVIDIA's generator."""
    residuals = {
        f"synthesis.b64.modify_feature_{name}.weight": np.ones((2, 3, 1, 1), np.float32)
        for name in ("alignment.first_layer", "alignment.dconv3.0.res_layer.0", "gates.down1", "gates.down2")
    }
    parts = {"e4e": dialects.state_dict(tensors(E)), "generator_smooth": dialects.state_dict(GENERATOR | residuals)}
    return {**parts, "latent_avg": files.T(E.params["w_avg"])} | more


RESIDUALS = styleres.StyleResConfig(resolution=8, channels=8, encoder_channels=24, tap=1, width=6)


def residuals_at(shape=RESIDUALS):
    """The prefix of their names."""
    return f"synthesis.b{shape.resolution}.modify_feature_"


def residuals(dead=True, shape=RESIDUALS):
    """StyleRes' networks, by default for `GENERATOR`, as the authors name them, and their params."""
    params, place = random_leaves(styleres.param_shapes(shape), np.random.default_rng(3)), residuals_at(shape)
    named = {f"{place}{name}": np.array(a) for name, a in canonical(params).items()}
    if dead:
        named[f"{place}alignment.dconv3.0.res_layer.0.weight"] = np.ones((6, 6, 3, 3), np.float32)
    return named, params


def styleres_checkpoint(named, weights=GENERATOR, num_ws=6, **more):
    """A whole file of StyleRes: generator, encoder, mean latent, and these networks."""
    E = encoder(num_ws=num_ws)
    parts = {"e4e": dialects.state_dict(tensors(E)), "generator_smooth": dialects.state_dict(weights | named)}
    return {**parts, "latent_avg": files.T(E.params["w_avg"])} | more
