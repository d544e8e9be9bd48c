"""Every latent space on the same images, for the bundled generator or any other: the comparison of the F/Z+ paper.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Table 1 and Fig. 2;
    spaces of 2306.00241, P_N of 2012.09036, F/W+ with P_N of BDInvert (ICCV 2021).
Expected: the spaces with f have the lowest MSE, z the highest; which of f/w+, f/s and f/z+ is best depends on images
    and generator.
Cost: the sum of its presets: 15 times 300 steps; 0.02 s per image-step for the bundled 64-px generator on 2 CPU cores,
    so about 90 s per image in all, and 5-20 s of compilation per preset.
Command: lsap-jax compare IMAGES --generator G --out runs/compare
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            # Names or files of configurations of `lsap-jax invert`, in the order of rows and columns.
            presets=(
                "z", "z+", "w", "w+", "s", "p", "pn", "pn+", "wplus_pn",
                "f/z", "f/z+", "f/w", "f/w+", "f/s", "bdinvert",
            ),
            # ("key", value) pairs put into every preset: (("optimizer.lr", 0.05), ("loss.perceptual", 5.0)).
            overrides=(),
            # A preset may name the file of an encoder that its codes start from, "e4e@e4e_1.safetensors", and goes by
            # the file's name then; relative files are in this folder.
            encoders="",
            # Methods of refinement, each of which refines every run into a run of its own, PRESET_then_METHOD; "all" is
            # every one that there is. Those that the generator has no networks for are left out.
            refine=(),
            # The same for single ones: "PRESET then METHOD", as "e4e then hfgi", with the presets' names in tables.
            cells=(),
            # ("METHOD.OPTION", value) pairs: (("pti.steps", 100), ("pti.rank", 4)).
            refine_overrides=(),
            # ("METHOD", file of its networks) pairs, in the folder of encoders; others come with the generator.
            refine_weights=(),
            # Leave out, with a line, presets and methods that lack a file or a network, instead of refusing them.
            leave_out=False,
            # 0 leaves each preset its own, or `most_steps` where it has more (0 is no limit).
            steps=300,
            most_steps=0,
            # The first so many images; 0 is all.
            count=0,
            seed=0,
            batch_size=16,
            # Add what `lsap-jax evaluate` measures: SSIM as papers have it, MS-SSIM, NSCD, the discriminator's logit.
            evaluate=True,
            # Measure KID, too: of each run's reconstructions as a set against the set of targets.
            sets=False,
            # Files for every preset, as `lsap-jax invert` takes them: LPIPS, base-code encoder, statistics of P_N.
            perceptual="",
            basecode="",
            pnorm="",
            # Non-inferiority of one preset to another, with an absolute margin (the paper's) and one relative to the
            # baseline's mean; `level` is where a p value counts.
            test=dict(candidate="f/z+", baseline="bdinvert", absolute=1e-8, relative=0.05, level=0.05),
            # Name or file of a configuration of `lsap-jax edit-quality`, for edits of all runs, in the folder edits; ""
            # is none.
            edits="",
            # Compare edits with those of IMAGES that have the attribute asked for, those beyond `count` too (KID).
            real=False,
            # ("key", value) pairs put into that configuration.
            edit_overrides=(),
            # A claim about several runs to judge, see lsap_claims.
            claim=dict(),
            # More claims by the same settings: name -> what differs, see all_methods.
            claims=dict(),
            # Images in the picture, evenly spread over the order of the images.
            grid=5,
            # Numbers of papers to show beside ours: source, note and rows by preset, see compare_table1.
            published=dict(),
        )
    )  # fmt: skip
