"""two_stage: every embedding with every method of refinement, on the same images and edits.

Paper: Cao et al., LSAP (arXiv 2209.12746), whose second stage is SAM or DHR; PTI and SAM with Z+ pivots are those of
    2307.08995, Figures 9 to 11.
Expected: a row per embedding, and per method after it, in methods.md, with MSE, perceptual distance, SSIM, NSCD, KID,
    seconds, bytes and edits. Below them verdicts, by the rule of lsap_jax/experiments/claims/verdict.py, on what the
    papers claim: that an aligned start makes a better refinement, and that Z+ costs no reconstruction and helps edits.
Cost: embeddings as in `compare`; PTI 350 steps for each image and embedding; edits take most of the time, 3,600
    pictures per row.
Command: lsap-jax compare IMAGES --config two_stage --generator G --config.encoders=encoders --out runs/two_stage

Every cell is a run folder: a killed command goes on when it is run again. e4e is the encoder that comes with the
generator. Methods without networks for the generator, and spaces that a method cannot refine, are left out, with a
line each.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import compare

PRESERVING = ("equal fidelity", "editability")  # parts of a claim that says nothing of perception


def claim(statement: str, candidate: str, baseline: str, **more: object) -> ConfigDict:
    """What differs between claims; the rule is in lsap_jax/experiments/claims/verdict.py."""
    return ConfigDict(dict(statement=statement, candidate=(candidate,), baseline=(baseline,), **more))


def get_config() -> ConfigDict:
    config = compare.get_config()
    config.presets = ("e4e", "lsap_e@lsap_e.safetensors", "w", "z+", "f/z+")
    config.refine = ("all",)
    config.encoders = "encoders"
    config.count = 50
    # Each preset's own steps, 300 at most: none of the encoders.
    config.steps = 0
    config.most_steps = 300
    config.sets = True
    config.edits = "edit_quality"
    config.test.candidate = "lsap_e then pti"
    config.test.baseline = "e4e then pti"
    # As in lsap_claims.
    config.claim = ConfigDict(
        dict(statement="", candidate=(), baseline=(), margin=0.05, level=0.05, strength=3.0, success=0.5, weights=())
    )
    config.claims = ConfigDict(
        dict(
            **{
                f"aligned_{method}": claim(
                    f"an aligned start makes a better {method.upper()}", f"lsap_e then {method}", f"e4e then {method}"
                )
                for method in ("pti", "sam", "dhr")
            },
            **{
                f"zplus_{method}": claim(
                    f"Z+ in {method.upper()} costs no reconstruction and helps edits",
                    f"z+ then {method}",
                    f"w then {method}",
                    parts=PRESERVING,
                )
                for method in ("pti", "sam")
            },
        )
    )
    return config
