"""all_methods of the FFHQ generator with public encoders, beside the tables of F/Z+ and of LSAP's authors.

Paper: as all_methods; numbers of arXiv 2307.08995, Table 1, and of caopulan/GANInverter, README.
Expected: dhr, pti, sam, hfgi, hyperstyle have lower MSE than what they refine. Never run on CelebA-HQ here.
Cost: 1024 px needs an accelerator. Optimisations take 1,200 steps per image, PTI 350 more.
Command: lsap-jax compare CELEBA_HQ --config all_methods_ffhq --generator ffhq.safetensors --perceptual
    lpips_alex.safetensors --basecode encoder.safetensors --config.encoders=encoders --out runs/all_methods_ffhq

ffhq.safetensors contains the networks of the methods; or their files are in the folder encoders, and
--config.refine_weights="(('styleres', 'styleres.safetensors'),)" names them. That folder has e4e.safetensors,
psp.safetensors, lsap_e.safetensors, restyle_e4e.safetensors and HyperStyle's w_encoder.safetensors, all made by
`lsap-jax convert`. Without a classifier of attributes, the success of edits is unknown: edits/ shows them as curves
over strength, the table at one strength; `--config.edit_overrides` names a classifier.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import all_methods, two_stage_ffhq


def get_config() -> ConfigDict:
    config, beside = all_methods.get_config(), two_stage_ffhq.get_config()
    config.presets = (
        "e4e@e4e.safetensors", "e4e@w_encoder.safetensors", *(name for name in config.presets if name != "e4e")
    )  # fmt: skip
    moved = {"e4e then hyperstyle": "w_encoder then hyperstyle"}
    config.cells = (*(moved.get(cell, cell) for cell in config.cells), "lsap_e then sam", "lsap_e then dhr")
    config.claims.styleres_hyperstyle.baseline = ("w_encoder then hyperstyle",)
    config.most_steps = beside.most_steps
    config.edits, config.edit_overrides = beside.edits, beside.edit_overrides
    config.claim.strength = beside.claim.strength
    config.published = all_methods.published("w_encoder then hyperstyle")
    return config
