"""F/Z+ inversion with retraction, the paper's setting.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), eq. 1-5; also
    2306.00241.
Expected: MSE 0.0174, SSIM 0.815 for FFHQ at 1024 px on 50 CelebA-HQ images (Table 1).
Cost: 1200 steps; 0.02 s per image-step for the bundled 64-px generator on 2 CPU cores.
Command: lsap-jax invert IMAGES --generator G --space f/z+ --out runs/f_zplus

Losses are means, as in the authors' code: with the sums of the paper (squared norms), the base code's weight of 10
would have no meaning.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            space="f/z+",
            steps=1200,
            seed=0,
            batch_size=16,
            # Resolution of f: 0 is an eighth of the image, at most 16 (the paper's 16 at 1024 px, 8 at 64 px).
            base_resolution=0,
            # Variances of P_N count as at least so much of the largest (spaces pn, pn+ and loss.pn).
            eigenvalue_floor=0.0,
            # Noise maps of each image are part of its code and optimised, as the StyleGAN2 projector does.
            noise_maps=False,
            # base: distance of f from its start. pn: mean square of p_N. nscd: LSAP's alignment. delta: distances of
            # the rows of w+ from the first. w_norm: distance from the mean w. domain: mean square of ws - E(G(ws)),
            # IDInvert's, with the latent encoder E. noise: autocorrelation of noise maps.
            loss=dict(
                mse=1.0, perceptual=10.0, base=10.0, pn=0.0, nscd=0.0, delta=0.0, w_norm=0.0, domain=0.0, noise=0.0
            ),
            # What LSAP's paper leaves open: "sum" or "mean" over the layers, anchors brought to unit length or not.
            nscd=dict(reduce="sum", renormalise=False),
            # network: "auto" takes LPIPS where perceptual.weights names a converted file, else the discriminator's
            # features, else none. Images above `resolution` are reduced to it, the reconstruction by torch's bicubic
            # filter and the target by Lanczos.
            perceptual=dict(network="auto", weights="", resolution=256),
            # schedule: "constant", "ramp" (the StyleGAN2 projector's) or "cosine". lr_f: rate of f, 0 is lr.
            optimizer=dict(name="adam", lr=0.01, lr_f=0.0, b1=0.9, b2=0.999, eps=1e-8, schedule="constant"),
            # Noise on w during the optimisation, in units of w's spread, gone after the part `until` of the steps.
            latent_noise=dict(scale=0.0, until=0.75),
            # How codes stay on the sphere: "project" (eq. 5, after every step), "normalise" (inside the graph, as the
            # authors' code), "riemannian" (Adam on the sphere: tangent steps, one second moment per z_i).
            retraction="project",
            # psi 1 is no truncation; cutoff -1 is all rows. The authors' code has psi 0.7, cutoff 8 (preset f/z+:code).
            truncation=dict(psi=1.0, cutoff=-1),
            # Start of f: "auto" takes the base-code encoder where there is one, else "w_avg", the generator's own
            # feature at the mean w. Start of the detail code: "auto" is random in z spaces and the mean w in others, as
            # in the papers; "random" or "w_avg" in any space; "encoder" is the code from the latent encoder,
            # "near" the same where there is an encoder, else the mean w. w_steps: so many steps in W first.
            init=dict(f="auto", detail="auto", w_steps=0, basecode="", pnorm=""),
            noise_mode="const",
            # An image is done early when its least loss fell by no more than the part `tolerance` over the last
            # `patience` steps (looked at after every chunk); 0 is never. The next image takes its place.
            converge=dict(patience=0, tolerance=0.01),
            # "best" keeps each image's best step, "last" the last one, as the authors do.
            keep="best",
            # Non-square images: "crop" the centre or "pad" with white.
            fit="crop",
            # Cut every picture to its face first, upright as in FFHQ, as generators of faces know them; a picture
            # without one clear face fails with the reason.
            align=False,
            # How a step is computed. winograd: 3x3 convolutions of so many channels and more in Winograd's form, 0 is
            # never. together: images that a device computes at once, 0 is all. -1 is what was measured: 256 channels
            # and one image on processors, never and all on accelerators. half_blocks: blocks with features in bfloat16,
            # from the highest resolution down. remat: compute the inside of blocks again in the backward pass, for
            # less memory. precision: of the convolutions in steps, where the device has several: "highest" is full
            # float32, "high" TF32 on GPUs, five times as fast there, and three passes of bfloat16 on TPUs, "default"
            # TF32 and one pass. What is saved, shown and measured is always in full float32.
            compute=dict(winograd=-1, together=-1, half_blocks=0, remat=False, precision="high"),
            # Steps per compiled scan: progress and non-finite images are looked at in between.
            chunk=50,
        )
    )
