"""IDInvert as in its authors' code: `idinvert` with the features of VGG16 instead of LPIPS.

Paper: Zhu et al., In-Domain GAN Inversion for Real Image Editing (ECCV 2020), eq. 6; code: genforce/idinvert_pytorch,
    100 steps of Adam 0.01, MSE 1, relu4_3 of VGG16 5e-5, domain 2, last iterate, from the encoder's code.
Expected: MSE 0.0216, SSIM 0.650 on FFHQ (Table 1 of 2307.08995). Never run on FFHQ here.
Cost: 100 steps at 256 px, each with two passes of VGG16 up to relu4_3 and one of the encoder.
Command: lsap-jax invert IMAGES --generator styleganinv.safetensors --config idinvert_code \
    --config.perceptual.weights=lpips_vgg.safetensors --out runs/idinvert

The generator and its encoder are IDInvert's own, in one file (docs/converting.md). The authors use Caffe's VGG16, LPIPS
torchvision's.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import idinvert


def get_config() -> ConfigDict:
    config = idinvert.get_config()
    config.loss.perceptual = 5e-5
    config.perceptual.network = "vgg"
    return config
