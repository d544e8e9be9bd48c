"""What LSAP claims, tested: encoders with and without alignment, and optimisations, on the same images and edits.

Paper: Cao et al., LSAP: Rethinking Inversion Fidelity, Perception and Editability in GAN Latent Space (arXiv
    2209.12746): alignment improves perception and editability at equal fidelity, in both stages. The paper's tables
    are not reproduced here; lsap_jax/experiments/claims/verdict.py has the rule that judges the claim.
Expected: a row per method in methods.md, and below it whether the claim is confirmed; weights.svg has the encoders of
    three weights of the term. docs/alignment.md has the numbers for the bundled generator.
Cost: encoders take about a second per image; their edits take most of the time (3,600 pictures each, inverted again
    for LEC); optimisations 300 steps, as in `compare`.
Command: lsap-jax compare IMAGES --config lsap_claims --generator G --config.encoders=encoders --out runs/lsap

The encoders are those of `make encoders`, all trained on the same images for as many steps: three seeds of e4e and of
LSAP_E, and LSAP_E with other weights of the alignment (--config.loss.nscd=0.1 and 2). The first e4e is the encoder that
comes with the generator (`make models` trains it in the same way).
"""

from ml_collections import ConfigDict

from lsap_jax.configs import compare

SEEDS = ("", "_1", "_2")  # of the names of files


def get_config() -> ConfigDict:
    config = compare.get_config()
    config.presets = (
        "psp@psp.safetensors",
        "e4e",
        *(f"e4e@e4e{seed}.safetensors" for seed in SEEDS[1:]),
        *(f"lsap_e@lsap_e{seed}.safetensors" for seed in SEEDS),
        "lsap_e@lsap_e_w0.1.safetensors",
        "lsap_e@lsap_e_w2.safetensors",
        "restyle_e4e@restyle_e4e.safetensors",
        *("w", "w+", "lsap_o", "z+", "f/z+", "f/z+:fast"),
    )
    config.encoders = "encoders"
    config.count = 50
    # Each preset's own steps, 300 at most: none of the encoders, 150 of f/z+:fast.
    config.steps = 0
    config.most_steps = 300
    config.sets = True
    config.edits = "edit_quality"
    config.test.candidate = "lsap_e"
    config.test.baseline = "e4e"
    config.claim = ConfigDict(
        dict(
            statement="alignment improves perception and editability at equal fidelity",
            # Methods whose values are averaged image by image: seeds of one training. () for both judges nothing.
            candidate=tuple(f"lsap_e{seed}" for seed in SEEDS),
            baseline=tuple(f"e4e{seed}" for seed in SEEDS),
            # Equal fidelity: not worse by this part of the baseline's mean, at this level of each test.
            margin=0.05,
            level=0.05,
            # Edits are compared at this strength, and where this part of them has succeeded.
            strength=3.0,
            success=0.5,
            # (weight of the term, method) of the chart.
            weights=((0.1, "lsap_e_w0.1"), (0.5, "lsap_e"), (2.0, "lsap_e_w2")),
        )
    )
    return config
