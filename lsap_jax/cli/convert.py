"""Convert an official checkpoint to one file of this package, without running any code in it.

usage: lsap-jax convert SRC DST                         StyleGAN2 (NVlabs, PTI, TensorFlow, rosinality, GenForce)
       lsap-jax convert SRC DST --add_basecode ENCODER  the same, with an encoder inside
       lsap-jax convert vgg16.pth DST --lin vgg.pth     LPIPS: torchvision's backbone, and lin weights of lpips
       lsap-jax convert pt_inception.pth DST            FID: Inception v3 of pytorch-fid
       lsap-jax convert vggface2.pt DST                 identity: facenet-pytorch's or ArcFace's network (model_ir_se50)
       lsap-jax convert dlib_face_recognition_resnet_model_v1.dat DST --half     identity: dlib's (it comes with this
                                                        package, too)
       lsap-jax convert facenet_pytorch.whl DST         MTCNN, which finds faces (it comes with this package, too)
       lsap-jax convert ENCODER DST [--generator G]     BDInvert's base-code encoder, alone or inside its generator
       lsap-jax convert e4e_ffhq_encode.pt DST          pSp, e4e, LSAP, ReStyle, the W encoder of HyperStyle: generator,
                                                        encoder and mean latent, for `lsap-jax encode --generator DST`
       lsap-jax convert SRC DST --only encoder          one part alone: generator, encoder, latent_discriminator, ...

SRC is a file or an https:// address. Its content is recognised under any key and prefix; docs/converting.md lists the
formats, `lsap-jax models` public checkpoints.
DST is one safetensors file with configuration, provenance and digest in its header.
DST.samples.png beside it shows samples of seeds 0, 1, ... at truncation 0.7 (16; 4 above 256 px): look at them, as a
wrong conversion shows at once.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from convert_weights.checkpoint import Checkpoint, ConversionError
from convert_weights.convert import completed, description, halved, row, written
from convert_weights.convert import save as save_checkpoint
from lsap_jax.cli.arguments import Arguments, new_flags, number, switch, text
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator

GRID_PSI = 0.7


def flags() -> FlagValues:
    values = new_flags()
    text(values, "lin", "lin weights of LPIPS for a backbone SRC")
    text(values, "generator", "generator to join SRC to, an encoder of base codes or of ws")
    text(values, "add_basecode", "encoder of base codes or of ws to join to the generator SRC")
    number(
        values, "base_resolution", "resolution of f for a BDInvert encoder, whose file does not record it", 16, lower=4
    )
    text(values, "only", "convert only this part of SRC: generator, encoder, latent_discriminator or discriminator")
    switch(values, "half", "store the weights in half precision; not for generators", False)
    switch(values, "grid", "render samples beside DST", True)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.storage.weights_file import check_writable, is_weights_file

    args.no_config()
    source, target = (Path(p) for p in args.only("SRC", "DST"))
    if target.exists() and source.exists() and target.samefile(source):
        raise LsapError(f"{target}: is the source itself; name another file to write")
    check_writable(target)
    if args.flags.generator is not None and source.is_file() and is_weights_file(source):
        from lsap_jax.models.network_file import load
        from lsap_jax.models.registry import companions

        return join(args, load(source, *companions()), {"source": source.name}, target)
    checkpoint = found(source)
    lin = found(Path(args.flags.lin)) if checkpoint.kind == "backbone" and args.flags.lin else None
    try:
        checkpoint = completed(checkpoint, lin, args.flags.base_resolution, args.flags.only)
        checkpoint = halved(checkpoint) if args.flags.half else checkpoint
    except ConversionError as error:
        raise LsapError(f"{source}: {error}") from error
    if checkpoint.kind == "generator" and args.flags.generator is not None:
        raise LsapError(f"{source}: holds a generator, and --generator names another; add --only encoder")
    if checkpoint.kind == "generator":
        return convert_generator(args, checkpoint, source, target)
    from lsap_jax.models.network_file import from_checkpoint
    from lsap_jax.models.registry import KINDS

    network = from_checkpoint(checkpoint, str(source)).build(checkpoint.kind)  # refuses what does not fit
    if args.flags.generator is not None and KINDS[checkpoint.kind].companion:
        return join(args, network, {**checkpoint.provenance, "source": source.name}, target)
    print(written(target, save_checkpoint(target, checkpoint, source)))
    return 0


def found(path: Path) -> Checkpoint:
    """What a file holds; prints its description."""
    from convert_weights import read

    checkpoint = read(path)
    print(*description(checkpoint), sep="\n")
    return checkpoint


def convert_generator(args: Arguments, checkpoint: Checkpoint, source: Path, target: Path) -> int:
    """Converts the generator of a checkpoint with its companion networks, and renders its samples."""
    from lsap_jax.models.generator_file import from_checkpoint
    from lsap_jax.models.network_file import attach_file

    G = from_checkpoint(checkpoint)
    if args.flags.add_basecode:
        G = attach_file(G, args.flags.add_basecode)
    return save(args, G, {"name": target.stem, "source": source.name}, target)


def join(args: Arguments, network: Any, facts: dict[str, Any], target: Path) -> int:
    """An encoder inside the file of `--generator`; `facts` say where it comes from."""
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.models.network_file import attach

    G = attach(load_generator(args.flags.generator), network)
    return save(args, G, {network.kind: facts}, target)


def save(args: Arguments, G: "Generator", facts: dict[str, Any], target: Path) -> int:
    """Writes a generator with these facts in its provenance, and renders samples beside it, unless `--nogrid`."""
    G = replace(G, provenance_json=json.dumps({**G.provenance, **facts}, sort_keys=True))
    print(written(target, G.save(target)))
    if not args.flags.grid:
        return 0
    import numpy as np

    from lsap_jax.models.classes import labels_from
    from lsap_jax.rendering.samples import draw
    from lsap_jax.storage.pictures import grid, save_png

    number_of = 16 if G.img_resolution <= 256 else 4
    c = labels_from(G.c_dim, np.arange(number_of) % G.c_dim, number_of) if G.c_dim else None  # classes in turn
    images = draw(G, list(range(number_of)), GRID_PSI, 4, c)
    print(row("samples", str(save_png(target.with_suffix(".samples.png"), grid(images)))))
    return 0
