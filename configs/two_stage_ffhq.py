"""two_stage of the FFHQ generator with public encoders, beside the table of LSAP's authors.

Paper: as two_stage; numbers of caopulan/GANInverter, README, as in lsap_claims_ffhq.
Expected: from the lowest MSE up: dhr, pti, sam, hfgi, hyperstyle, if they are available. Never run on CelebA-HQ here.
Cost: 1024 px needs an accelerator. Optimisations take 1,200 steps per image, PTI 350 more for each embedding.
Command: lsap-jax compare CELEBA_HQ --config two_stage_ffhq --generator ffhq.safetensors --perceptual
    lpips_alex.safetensors --config.encoders=encoders --count 2824 --out runs/two_stage_ffhq

ffhq.safetensors contains the networks of the methods; the folder encoders has e4e.safetensors, lsap_e.safetensors and
HyperStyle's w_encoder.safetensors, all made by `lsap-jax convert`.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import lsap_claims_ffhq, two_stage

# Names of the published rows that are cells here.
CELLS = {
    "hyperstyle": "w_encoder then hyperstyle",
    "pti": "w then pti",
    "hfgi of e4e": "e4e then hfgi",
    **{f"{method} of {name}": f"{name} then {method}" for method in ("sam", "dhr") for name in ("e4e", "lsap_e")},
}


def get_config() -> ConfigDict:
    config, beside = two_stage.get_config(), lsap_claims_ffhq.get_config()
    config.presets = (
        "e4e@e4e.safetensors", "lsap_e@lsap_e.safetensors", "e4e@w_encoder.safetensors", "w", "z+", "f/z+",
    )  # fmt: skip
    config.most_steps = beside.most_steps
    config.edits, config.edit_overrides = beside.edits, beside.edit_overrides
    config.claim.strength = beside.claim.strength
    config.published = beside.published
    rows = beside.published.ganinverter.rows
    config.published.ganinverter.rows = ConfigDict({CELLS.get(name, name): row for name, row in rows.items()})
    return config
