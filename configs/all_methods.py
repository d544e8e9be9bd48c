"""all_methods: every method there is on the same images, ranked by reconstruction, editing and cost.

Paper: those of the methods; the claims judged below the table are from StyleRes (arXiv 2212.14359) and F/Z+
    (2307.08995).
Expected: a row per method in methods.md, ranks below it, and editing against reconstruction in frontier.svg: the codes
    that can be edited best are not those that reconstruct best, and refinements of an encoder's codes lie between.
Cost: encoders, StyleRes, HFGI and HyperStyle take about a second per image; optimisations 300 steps as in `compare`,
    PTI 350 more, SAM 1001, DHR 140; edits 3,600 pictures per row. docs/comparison.md has the hours.
Command: lsap-jax compare IMAGES --config all_methods --generator G --config.encoders=encoders --out runs/all_methods

Every cell is a run folder: a killed command goes on when it is run again. e4e is the encoder that comes with the
generator. Methods without networks for it, and encoders without a file in the folder, are left out, with a line each.
Edits are compared where equally many succeed, never at one strength, whose choice could give any realism.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import compare, compare_table1, two_stage, two_stage_ffhq


def published(hyperstyle: str) -> ConfigDict:
    """The tables of F/Z+, GANInverter and StyleRes, all of FFHQ.

    Args:
        hyperstyle: the cell that HyperStyle's row stands beside.
    """
    found = {**compare_table1.get_config().published, **two_stage_ffhq.get_config().published}
    del found["b_figure2"]
    rows = dict(found["ganinverter"].rows)
    rows[hyperstyle] = rows.pop("w_encoder then hyperstyle")
    found["ganinverter"].rows = ConfigDict(rows)
    found["styleres"] = ConfigDict(
        dict(
            source="arXiv 2212.14359, Table 1: CelebA-HQ",
            note="No numbers of it are known here: fill in what you have. By its scripts SSIM is MS-SSIM, LPIPS that "
            "of AlexNet, FID that of JPG files in torchvision's Inception; editing FID depends on the strength.",
            columns=("fid", "ms_ssim", "lpips_alex", "editing_fid"),
            rows={cell: {} for cell in ("e4e", "e4e then hfgi", hyperstyle, "e4e then styleres")},
        )
    )
    return ConfigDict(found)


def get_config() -> ConfigDict:
    config = compare.get_config()
    config.presets = (
        "e4e",
        *(f"{name}@{name}.safetensors" for name in ("psp", "lsap_e", "restyle_e4e")),
        *("w", "z+", "f/z+", "f/z+:fast", "bdinvert", "idinvert"),
    )
    config.cells = (
        *(f"e4e then {method}" for method in ("hfgi", "hyperstyle", "sam", "dhr", "styleres")),
        "w then pti",
        "z+ then pti",
    )
    config.leave_out = True
    config.published = published("e4e then hyperstyle")
    for source in config.published.values():
        source.elsewhere = True
    config.encoders = "encoders"
    config.count = 50
    # Each preset's own steps, 300 at most: none of the encoders.
    config.steps = 0
    config.most_steps = 300
    config.sets = True
    config.edits = "edit_quality"
    config.real = True
    # `strength` None leaves out the columns at one strength; the rest is as in lsap_claims.
    config.claim = ConfigDict(
        dict(
            statement="", candidate=(), baseline=(), margin=0.05, level=0.05, strength=None, success=0.5, weights=()
        ),
    )  # fmt: skip
    config.claims = ConfigDict(
        dict(
            **{
                f"styleres_{name.split()[-1]}": two_stage.claim(
                    f"StyleRes edits better than {told} at equal fidelity",
                    "e4e then styleres",
                    name,
                    parts=two_stage.PRESERVING,
                )
                for name, told in (("e4e", "e4e"), ("e4e then hfgi", "HFGI"), ("e4e then hyperstyle", "HyperStyle"))
            },
            fzplus=two_stage.claim(
                "F/Z+ keeps images real where F/W+ with P_N does not",
                "f/z+",
                "bdinvert",
                parts=("perception", "editability"),
                measures=("logit",),
            ),
        )
    )
    return config
