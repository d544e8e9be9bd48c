"""The kinds of networks: one table of how each network is stored in files and held in memory.

A new kind is a row of `KINDS`: its name, its configuration, the tree of its shapes, the class that holds it. With the
row it can be loaded, saved, converted and joined to a generator (`lsap_jax.models.network_file`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from lsap_jax.models import (
    attributes,
    basecode,
    detector,
    embedder,
    hfgi,
    hyperstyle,
    inception,
    invertibility,
    perceptual,
    psp,
    styleclip,
    styleres,
)
from lsap_jax.models.discriminator import Discriminator, discriminator_shapes
from lsap_jax.models.face_parser import FaceParserNetwork
from lsap_jax.models.generator import Generator
from lsap_jax.models.idinvert import IdinvertEncoder
from lsap_jax.models.latent_discriminator import LatentDiscriminator
from lsap_jax.models.latent_encoder import LatentEncoder
from lsap_jax.networks import attributes as attributes_network
from lsap_jax.networks import basecode as basecode_network
from lsap_jax.networks import (
    dlib_resnet,
    idinvert,
    inception_resnet,
    irse,
    latent_discriminator,
    latent_encoder,
    moco,
    mtcnn,
)
from lsap_jax.networks import face_parser as face_parser_network
from lsap_jax.networks import hfgi as hfgi_networks
from lsap_jax.networks import hyperstyle as hyperstyle_network
from lsap_jax.networks import inception as inception_network
from lsap_jax.networks import invertibility as invertibility_network
from lsap_jax.networks import perceptual as perceptual_network
from lsap_jax.networks import styleclip as styleclip_network
from lsap_jax.networks import styleres as styleres_networks
from lsap_jax.networks.bounds import checked
from lsap_jax.networks.families import generator_config, generator_shapes
from lsap_jax.networks.latent_discriminator import LatentDiscriminatorConfig
from lsap_jax.networks.parameters import CANONICAL, LEAVES, Layout, canonical, flat
from lsap_jax.networks.psp import PspConfig
from lsap_jax.networks.stylegan2.discriminator import DiscriminatorConfig

Params = Mapping[str, Any]


class Facts(NamedTuple):
    """The contents of a file besides its tensors.

    Attributes:
        header: its configuration, as it is written.
        provenance: where the weights come from; "sha256" is the digest of the tensors.
    """

    header: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of network.

    Attributes:
        name: its name in headers of files, in parts of checkpoints, and among the parts of a generator.
        what: the network in words, for errors.
        remedy: what to do if a file holds something else.
        config: a header's configuration to the network's own, checked before anything is computed from it; `of`
            makes it of a dataclass.
        shapes: that configuration to the tree of its params as ShapeDtypeStructs.
        holder: (configuration, params, facts) to the object that users hold. One that comes with a generator or is
            saved is a pytree with `kind`, `config` and `params`; one that comes with a generator also has
            `check_fits(generator's configuration)`.
        layout: of the arrays in checkpoints and in files of this kind alone; in a generator's file it is `LEAVES`.
        arrays: params to arrays of this layout.
        header: a held network to the configuration in the header.
        companion: whether it can be joined to a generator from a file of its own.
        encodes: whether it is an `Encoder`, which `load_encoder` looks for.
    """

    name: str
    what: str
    remedy: str
    config: Callable[[Mapping[str, Any]], Any]
    shapes: Callable[[Any], Params]
    holder: Callable[[Any, Params, Facts], Any]
    layout: Layout = CANONICAL
    arrays: Callable[[Params], dict[str, np.ndarray]] = flat
    header: Callable[[Any], dict[str, Any]] = lambda model: asdict(model.config)
    companion: bool = False
    encodes: bool = False


def of(config: Callable[..., Any]) -> Callable[[Mapping[str, Any]], Any]:
    """A header as this dataclass, whose fields declare types and ranges (`lsap_jax.networks.bounds`)."""
    return lambda header: checked(config, header)


def holding(network: Callable[..., Any]) -> Callable[[Any, Params, Facts], Any]:
    """A holder that keeps configuration and params only."""
    return lambda config, params, facts: network(config=config, params=params)


def no_configuration(shapes: Callable[[], Params]) -> Callable[[Any], Params]:
    """Shapes of a network that comes in one size."""
    return lambda config: shapes()


def face_network(name: str) -> Callable[[Any, Params, Facts], embedder.Embedder]:
    """The holder of the face network of this kind."""
    return lambda config, params, facts: embedder.embedder_of(name, params, facts.header, facts.provenance)


_ROWS = (
    Kind(
        name="generator",
        what="a StyleGAN generator",
        remedy="choose a generator's file, or convert the original again",
        config=generator_config,
        shapes=generator_shapes,
        holder=holding(Generator),
    ),
    Kind(
        name="discriminator",
        what="a StyleGAN2 discriminator",
        remedy="choose the file of a generator with its discriminator",
        config=of(DiscriminatorConfig),
        shapes=discriminator_shapes,
        holder=holding(Discriminator),
    ),
    Kind(
        name="basecode",
        what="a base-code encoder",
        remedy="choose the encoder's file, or train one with `lsap-jax train-basecode`",
        config=basecode.basecode_config,
        shapes=basecode_network.variable_shapes,
        holder=holding(basecode.BasecodeEncoder),
        layout=basecode_network.LAYOUT,
        arrays=basecode_network.canonical_arrays,
        companion=True,
    ),
    Kind(
        name="encoder",
        what="a latent encoder",
        remedy="choose the encoder's file, or train one with `lsap-jax train-encoder`",
        config=of(latent_encoder.LatentEncoderConfig),
        shapes=latent_encoder.variable_shapes,
        holder=holding(LatentEncoder),
        layout=LEAVES,
        companion=True,
        encodes=True,
    ),
    Kind(
        name="psp",
        what="an encoder of pSp, e4e, LSAP or ReStyle",
        remedy="choose the encoder's file, or convert the original one with `lsap-jax convert`",
        config=of(PspConfig),
        shapes=psp.param_shapes,
        holder=holding(psp.PspEncoder),
        arrays=canonical,
        companion=True,
        encodes=True,
    ),
    Kind(
        name="idinvert",
        what="IDInvert's released encoder",
        remedy="choose the encoder's file, or convert the original one with `lsap-jax convert`",
        config=of(latent_encoder.LatentEncoderConfig),
        shapes=idinvert.param_shapes,
        holder=holding(IdinvertEncoder),
        arrays=canonical,
        companion=True,
        encodes=True,
    ),
    Kind(
        name="latent_discriminator",
        what="a latent discriminator",
        remedy="convert a training snapshot of e4e, saved with --save_training_data, with `lsap-jax convert`",
        config=of(LatentDiscriminatorConfig),
        shapes=lambda config: latent_discriminator.param_shapes(config.w_dim),
        holder=holding(LatentDiscriminator),
        arrays=canonical,
        companion=True,
    ),
    Kind(
        name="styleres",
        what="StyleRes' networks",
        remedy="convert StyleRes' checkpoint with `lsap-jax convert`, or train them with `lsap-jax train-refiner`",
        config=of(styleres_networks.StyleResConfig),
        shapes=styleres_networks.param_shapes,
        holder=holding(styleres.StyleRes),
        arrays=canonical,
        companion=True,
    ),
    Kind(
        name="hfgi",
        what="HFGI's networks",
        remedy="convert HFGI's checkpoint with `lsap-jax convert`, or train them with `lsap-jax train-refiner`",
        config=of(hfgi_networks.HfgiConfig),
        shapes=hfgi_networks.param_shapes,
        holder=holding(hfgi.Hfgi),
        arrays=canonical,
        companion=True,
    ),
    Kind(
        name="hyperstyle",
        what="a hypernetwork of HyperStyle",
        remedy="convert HyperStyle's checkpoint with `lsap-jax convert`, or train one with `lsap-jax train-refiner`",
        config=of(hyperstyle_network.HyperConfig),
        shapes=hyperstyle_network.param_shapes,
        holder=holding(hyperstyle.HyperStyle),
        arrays=canonical,
        companion=True,
    ),
    Kind(
        name="styleclip_mapper",
        what="a mapper of StyleCLIP",
        remedy="convert the mapper's .pt with `lsap-jax convert`",
        config=of(styleclip_network.MapperConfig),
        shapes=styleclip_network.param_shapes,
        holder=holding(styleclip.StyleclipMapper),
        arrays=canonical,
    ),
    Kind(
        name="invertibility",
        what="SAM's invertibility network",
        remedy="convert SAM's checkpoint with `lsap-jax convert`, or train one with `lsap-jax train-refiner`",
        config=of(invertibility_network.InvertibilityConfig),
        shapes=invertibility_network.param_shapes,
        holder=holding(invertibility.InvertibilityNetwork),
        arrays=canonical,
        companion=True,
    ),
    Kind(
        name="face_parser",
        what="a parser of faces",
        remedy="convert 79999_iter.pth of face-parsing.PyTorch with `lsap-jax convert`",
        config=of(face_parser_network.FaceParserConfig),
        shapes=face_parser_network.param_shapes,
        holder=holding(FaceParserNetwork),
        arrays=canonical,
    ),
    Kind(
        name="lpips",
        what="LPIPS",
        remedy="convert a backbone and its lin weights with `lsap-jax convert`",
        config=of(perceptual_network.PerceptualConfig),
        shapes=lambda config: perceptual_network.param_shapes(config.name),
        holder=lambda config, params, facts: perceptual.lpips_of(config.name, params),
    ),
    Kind(
        name="inception",
        what="FID's Inception v3",
        remedy=f"convert {inception.PUBLIC_FILE} of pytorch-fid with `lsap-jax convert`; a distance in other features "
        "is never called FID",
        config=of(inception.InceptionConfig),
        shapes=no_configuration(inception_network.param_shapes),
        holder=lambda config, params, facts: inception.inception_of(params, facts.provenance),
    ),
    *(
        Kind(
            name=name,
            what=what,
            remedy="convert 20180402-114759-vggface2.pt of facenet-pytorch, ArcFace's model_ir_se50.pth, or dlib's "
            "dlib_face_recognition_resnet_model_v1.dat with `lsap-jax convert`, or name the bundled one: dlib",
            config=of(embedder.EmbedderConfig),
            shapes=no_configuration(network.param_shapes),
            holder=face_network(name),
        )
        for name, what, network in (
            (embedder.FACENET, "Inception-ResNet v1", inception_resnet),
            (embedder.ARCFACE, "ArcFace's IR-SE50", irse),
            (embedder.DLIB, "dlib's face recognition network", dlib_resnet),
        )
    ),
    Kind(
        name=embedder.MOCO,
        what="MoCo's ResNet-50",
        remedy="convert moco_v2_800ep_pretrain.pth.tar with `lsap-jax convert`",
        config=of(embedder.EmbedderConfig),
        shapes=no_configuration(moco.param_shapes),
        holder=face_network(embedder.MOCO),
    ),
    Kind(
        name="mtcnn",
        what="MTCNN",
        remedy="convert the wheel of facenet-pytorch (pip download --no-deps facenet-pytorch) with `lsap-jax convert`",
        config=detector.detector_config,
        shapes=no_configuration(mtcnn.param_shapes),
        holder=lambda config, params, facts: detector.detector_of(params, facts.provenance),
        layout=mtcnn.LAYOUT,
    ),
    Kind(
        name="attributes",
        what="an attribute classifier",
        remedy="train one with `lsap-jax train-attributes`",
        config=attributes.attributes_config,
        shapes=attributes_network.param_shapes,
        holder=lambda config, params, facts: attributes.attributes_of(config, params, facts.header, facts.provenance),
        layout=LEAVES,
        header=attributes.attributes_header,
    ),
)
KINDS: dict[str, Kind] = {row.name: row for row in _ROWS}


def companions() -> tuple[str, ...]:
    """Names of the kinds that can be joined to a generator from a file of their own."""
    return tuple(name for name, kind in KINDS.items() if kind.companion)


def encoders() -> tuple[str, ...]:
    """Names of the kinds of encoders of images to ws."""
    return tuple(name for name, kind in KINDS.items() if kind.encodes)
