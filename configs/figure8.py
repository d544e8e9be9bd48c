"""LSUN cats in F/Z+ with StyleGAN1: the inversions that Figure 8 edits.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Fig. 8, which has
    pictures but no numbers or settings. The authors' scripts take --model_name stylegan_cat256 and leave all else as
    for StyleGAN2: f of 16 px before the normalisation of that block's first layer, 1200 steps of Adam 0.01, LPIPS at
    256 px. This is `f_zplus` with these sizes; `f/z+:code` has what their code does differently.
Expected: not measured here, as neither the weights nor the pictures are included.
Cost: 1200 steps at 256 px; before them, hours on one GPU to train a base-code encoder, as nobody publishes one.
Command: lsap-jax invert cats/ --generator cat_f.safetensors --config figure8 --perceptual lpips_vgg.safetensors \
    --out runs/cats

Before and after:

    lsap-jax convert karras2019stylegan-cats-256x256.pkl cat.safetensors
    lsap-jax train-basecode --config basecode --config.generator=cat.safetensors \
        --config.perceptual.weights=lpips_vgg.safetensors --out runs/cat_f
    lsap-jax edit runs/cats --direction ganspace:0-9 --strengths=-2,-1,0,1,2 --out runs/cats_edited

runs/cat_f/generator.safetensors is cat_f.safetensors. Without an encoder, f starts at the generator's features of the
mean w.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.base_resolution = 16
    config.perceptual.resolution = 256
    return config
