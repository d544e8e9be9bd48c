"""Checkpoints that others publish: what they are for, who publishes them, under which terms, and how to convert them.

The table of `lsap-jax models` and of docs/photographs.md. Nothing is fetched unless a command is given the address.
"""

from typing import NamedTuple

SEE = "see its page"


class Checkpoint(NamedTuple):
    """A file that somebody publishes, or several alike.

    Attributes:
        role: generator, encoder, refiner, perceptual, identity, metric, faces or directions.
        files: names as they are published.
        publisher: repository on GitHub.
        format: as docs/converting.md calls it.
        licence: of the repository; the weights may have another one.
        use: what it is for here.
        command: the command that converts it, or that takes it as it is.
        address: of the first file, if it can be fetched; others are behind a page that asks for a click.
    """

    role: str
    files: tuple[str, ...]
    publisher: str
    format: str
    licence: str
    use: str
    command: str
    address: str = ""

    @property
    def page(self) -> str:
        """Where it is published."""
        return f"https://github.com/{self.publisher}"


NVIDIA = "https://nvlabs-fi-cdn.nvidia.com"
GANINVERTER = "https://github.com/caopulan/GANInverter/releases/download/v0.1"

PUBLISHED = (
    Checkpoint(
        "generator",
        ("ffhq.pkl", "metfaces.pkl", "afhqcat.pkl", "afhqdog.pkl", "afhqwild.pkl"),
        "NVlabs/stylegan2-ada-pytorch",
        "NVlabs pickle",
        "Nvidia Source Code License",
        "faces and paintings at 1024 px, animals at 512 px",
        "lsap-jax convert ffhq.pkl ffhq.safetensors",
        f"{NVIDIA}/stylegan2-ada-pytorch/pretrained/ffhq.pkl",
    ),
    Checkpoint(
        "generator",
        ("stylegan2-cat-config-f.pkl", "stylegan2-ffhq-config-f.pkl"),
        "NVlabs/stylegan2",
        "TensorFlow pickle",
        SEE,
        "StyleGAN2 of the first paper",
        "lsap-jax convert stylegan2-cat-config-f.pkl cat.safetensors",
        f"{NVIDIA}/stylegan2/networks/stylegan2-cat-config-f.pkl",
    ),
    Checkpoint(
        "generator",
        ("stylegan2-ffhq-config-f.pt",),
        "caopulan/GANInverter",
        "rosinality",
        SEE,
        "the FFHQ generator of pSp, e4e, ReStyle, HyperStyle and LSAP",
        "lsap-jax convert stylegan2-ffhq-config-f.pt ffhq.safetensors",
        f"{GANINVERTER}/stylegan2-ffhq-config-f.pt",
    ),
    Checkpoint(
        "generator",
        (
            "karras2019stylegan-ffhq-1024x1024.pkl",
            "karras2019stylegan-celebahq-1024x1024.pkl",
            "karras2019stylegan-bedrooms-256x256.pkl",
            "karras2019stylegan-cats-256x256.pkl",
        ),
        "NVlabs/stylegan",
        "TensorFlow pickle, StyleGAN1",
        "CC BY-NC 4.0",
        "StyleGAN1",
        "lsap-jax convert karras2019stylegan-cats-256x256.pkl cats.safetensors",
    ),
    Checkpoint(
        "encoder",
        ("e4e_ffhq_encode.pt", "e4e_cars_encode.pt", "e4e_horse_encode.pt", "e4e_church_encode.pt"),
        "omertov/encoder4editing",
        "pSp's, with its generator",
        "MIT",
        "W+ codes that are edited well",
        "lsap-jax convert e4e_ffhq_encode.pt e4e.safetensors",
    ),
    Checkpoint(
        "encoder",
        ("psp_ffhq_encode.pt",),
        "eladrich/pixel2style2pixel",
        "pSp's, with its generator",
        "MIT",
        "W+ codes near the image",
        "lsap-jax convert psp_ffhq_encode.pt psp.safetensors",
    ),
    Checkpoint(
        "encoder",
        ("restyle_e4e_ffhq_encode.pt", "restyle_psp_ffhq_encode.pt"),
        "yuval-alaluf/restyle-encoder",
        "pSp's, with its generator",
        "MIT",
        "W+ codes in several passes",
        "lsap-jax convert restyle_e4e_ffhq_encode.pt restyle_e4e.safetensors",
    ),
    Checkpoint(
        "encoder",
        ("lsap_ffhq_r50_wp_official.pt", "e4e_ffhq_r50_wp_official.pt", "psp_ffhq_r50_wp_official.pt"),
        "caopulan/GANInverter",
        "GANInverter's, with its generator",
        SEE,
        "LSAP's encoder, and others in its format",
        "lsap-jax convert lsap_ffhq_r50_wp_official.pt lsap_e.safetensors",
        f"{GANINVERTER}/lsap_ffhq_r50_wp_official.pt",
    ),
    Checkpoint(
        "encoder",
        ("styleganinv_ffhq256_encoder.pth", "styleganinv_ffhq256_generator.pth"),
        "genforce/idinvert_pytorch",
        "IDInvert's StyleGAN1",
        "MIT-style",
        "codes of IDInvert at 256 px",
        "lsap-jax convert styleganinv_ffhq256_encoder.pth idinvert.safetensors --generator g.safetensors",
    ),
    Checkpoint(
        "encoder",
        ("encoder_stylegan2_ffhq1024_basesize16.pth",),
        "kkang831/BDInvert_Release",
        "BDInvert's",
        "AGPL-3.0",
        "start of the base code f in F spaces",
        "lsap-jax convert ffhq.pkl ffhq.safetensors --add_basecode encoder_stylegan2_ffhq1024_basesize16.pth",
    ),
    Checkpoint(
        "refiner",
        ("styleres_ffhq.pth",),
        "hamzapehlivan/StyleRes",
        "StyleRes', with generator and e4e",
        "NVIDIA Source Code License, non-commercial",
        "details that follow edits, in one pass",
        "lsap-jax convert styleres_ffhq.pth styleres.safetensors",
    ),
    Checkpoint(
        "refiner",
        ("hyperstyle_ffhq.pt", "faces_w_encoder.pt"),
        "yuval-alaluf/hyperstyle",
        "HyperStyle's, and its W encoder",
        "MIT",
        "changes of the generator's weights, in passes",
        "lsap-jax convert hyperstyle_ffhq.pt hyperstyle.safetensors",
    ),
    Checkpoint(
        "refiner",
        ("hfgi_ffhq_official.pt",),
        "caopulan/GANInverter",
        "HFGI's, with generator and e4e",
        "none in HFGI's repository, Tengfei-Wang/HFGI",
        "details that follow edits, in one pass",
        "lsap-jax convert hfgi_ffhq_official.pt hfgi.safetensors",
        f"{GANINVERTER}/hfgi_ffhq_official.pt",
    ),
    Checkpoint(
        "perceptual",
        ("vgg16-397923af.pth", "lpips/weights/v0.1/vgg.pth"),
        "richzhang/PerceptualSimilarity",
        "torchvision's backbone, lin weights of lpips",
        "BSD-2-Clause",
        "LPIPS, to minimise and to measure",
        "lsap-jax convert vgg16-397923af.pth lpips_vgg.safetensors --lin vgg.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
    Checkpoint(
        "identity",
        ("model_ir_se50.pth",),
        "TreB1eN/InsightFace_Pytorch",
        "ArcFace's IR-SE50",
        SEE,
        "identity of faces, in trainings and measurements",
        "lsap-jax convert model_ir_se50.pth arcface.safetensors",
        f"{GANINVERTER}/model_ir_se50.pth",
    ),
    Checkpoint(
        "identity",
        ("20180402-114759-vggface2.pt",),
        "timesler/facenet-pytorch",
        "Inception-ResNet v1 (FaceNet)",
        "MIT",
        "identity of faces, the F/Z+ paper's",
        "lsap-jax convert 20180402-114759-vggface2.pt facenet.safetensors",
        "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    ),
    Checkpoint(
        "identity",
        ("dlib_face_recognition_resnet_model_v1.dat",),
        "davisking/dlib-models",
        "dlib's",
        "CC0 1.0",
        "identity of faces; bundled",
        "lsap-jax evaluate RUN --identity dlib",
    ),
    Checkpoint(
        "metric",
        ("pt_inception-2015-12-05-6726825d.pth",),
        "mseitzer/pytorch-fid",
        "Inception v3 of pytorch-fid",
        "Apache-2.0",
        "FID",
        "lsap-jax convert pt_inception-2015-12-05-6726825d.pth inception.safetensors",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    ),
    Checkpoint(
        "metric",
        ("moco_v2_800ep_pretrain.pth.tar",),
        "facebookresearch/moco",
        "MoCo v2's ResNet-50",
        "CC BY-NC 4.0",
        "trainings of encoders on other things than faces",
        "lsap-jax convert moco_v2_800ep_pretrain.pth.tar moco.safetensors",
        "https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",
    ),
    Checkpoint(
        "faces",
        ("facenet_pytorch.whl",),
        "timesler/facenet-pytorch",
        "MTCNN",
        "MIT",
        "finding faces; bundled",
        "lsap-jax align photos/ --out faces",
    ),
    Checkpoint(
        "faces",
        ("79999_iter.pth",),
        "zllrunning/face-parsing.PyTorch",
        "BiSeNet",
        SEE,
        "parts of faces as segments, for SAM and DHR",
        "lsap-jax convert 79999_iter.pth parser.safetensors",
    ),
    Checkpoint(
        "directions",
        ("age.pt", "smile.pt", "pose.pt", "ffhq_pca.pt"),
        "omertov/encoder4editing",
        "InterFaceGAN's and GANSpace's, of W",
        "MIT",
        "edits of the FFHQ generators in w, w+, f/w and f/w+",
        "lsap-jax edit RUN --direction smile.pt --strengths=-3,0,3 --out edits",
    ),
    Checkpoint(
        "directions",
        ("stylegan_ffhq_smile_w_boundary.npy",),
        "genforce/interfacegan",
        "InterFaceGAN's boundaries, of W and Z",
        "MIT",
        "edits of StyleGAN1's faces",
        "lsap-jax edit RUN --direction stylegan_ffhq_smile_w_boundary.npy --strengths=-3,0,3 --out edits",
    ),
    Checkpoint(
        "directions",
        ("purple_hair.pt",),
        "orpatashnik/StyleCLIP",
        "StyleCLIP's mappers",
        SEE,
        "edits by texts in w+ and f/w+",
        "lsap-jax edit RUN --direction purple_hair.pt --strengths=0,0.1 --out edits",
    ),
)


def markdown() -> str:
    """The table as docs/photographs.md has it."""
    names = ("what", "file", "published by", "format", "licence of the repository", "for", "command")
    head = (f"| {' | '.join(names)} |", "|---" * len(names) + "|")
    rows = (
        f"| {one.role} | {', '.join(f'`{name}`' for name in one.files)} | "
        f"[{one.publisher}]({one.page}){f', [file]({one.address})' if one.address else ''} | {one.format} | "
        f"{one.licence} | {one.use} | `{one.command}` |"
        for one in PUBLISHED
    )
    return "\n".join([*head, *rows])
