"""An official checkpoint to one file of this package, without running anything that is inside it.

usage: lsap-jax convert SRC DST                         StyleGAN2 (NVlabs, PTI, TensorFlow, rosinality, GenForce, e4e)
       lsap-jax convert SRC DST --add_basecode ENCODER  the same, with a base-code encoder inside
       lsap-jax convert vgg16.pth DST --lin vgg.pth     LPIPS: torchvision's backbone, and lin weights of lpips
       lsap-jax convert pt_inception.pth DST            FID: Inception v3 of pytorch-fid
       lsap-jax convert vggface2.pt DST                 identity: facenet-pytorch's or ArcFace's network (model_ir_se50)
       lsap-jax convert facenet_pytorch.whl DST         MTCNN, which finds faces (it comes with this package, too)
       lsap-jax convert ENCODER DST [--generator G]     BDInvert's base-code encoder, alone or inside its generator

SRC is recognised by its content. DST is one safetensors file with configuration, provenance and digest in its header.
DST.samples.png beside it shows samples of seeds 0, 1, ... at truncation 0.7 (16; 4 above 256 px): look at it, a wrong
conversion is seen at once.
"""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from convert_weights.checkpoint import Checkpoint
from lsap_jax.cli.arguments import Arguments, new_flags, number, switch, text
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.models.generator import BasecodeEncoder, Generator

GRID_PSI = 0.7


def flags() -> FlagValues:
    values = new_flags()
    text(values, "lin", "lin weights of LPIPS that belong to a backbone SRC")
    text(values, "generator", "generator that a base-code encoder SRC is joined to")
    text(values, "add_basecode", "base-code encoder to join to the generator SRC")
    number(
        values, "base_resolution", "resolution of f of a BDInvert encoder, which its file does not tell", 16, lower=4
    )
    switch(values, "grid", "render samples beside DST", True)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.storage.weights_file import check_writable

    args.no_config()
    source, target = (Path(p) for p in args.only("SRC", "DST"))
    if target.exists() and source.exists() and target.samefile(source):
        raise LsapError(f"{target}: is the source itself; name the file to write")
    check_writable(target)
    if own_encoder(source, args.flags.generator):
        return join(args, source, target)
    from convert_weights import read

    checkpoint = read(source)
    describe(checkpoint)
    if checkpoint.kind == "stylegan2":
        return convert_generator(args, checkpoint, source, target)
    if checkpoint.kind == "basecode_encoder":
        return join(args, source, target, checkpoint)
    if checkpoint.kind == "inception":
        from lsap_jax.metrics.fid import save_inception

        return wrote(target, save_inception(target, checkpoint))
    if checkpoint.kind in ("inception_resnet_v1", "arcface"):
        from lsap_jax.models.embedder import save_embedder

        return wrote(target, save_embedder(target, checkpoint))
    if checkpoint.kind == "mtcnn" and len(checkpoint.config["networks"]) == 3:
        from lsap_jax.faces.detect import save_detector

        return wrote(target, save_detector(target, checkpoint))
    if checkpoint.kind == "backbone" and args.flags.lin:
        from lsap_jax.models.lpips_file import save_lpips

        lin = read(args.flags.lin)
        describe(lin)
        return wrote(target, save_lpips(target, checkpoint, lin))
    raise LsapError(f"{source}: {REMEDIES.get(checkpoint.kind, 'cannot be converted alone')}")


REMEDIES = {
    "backbone": "is half of LPIPS; name the other half with --lin (vgg.pth, alex.pth, squeeze.pth of lpips)",
    "lpips_lin": "is half of LPIPS; give the backbone as SRC and this file as --lin",
    "mtcnn": "is one of MTCNN's three networks; give the wheel of facenet-pytorch, which has them all",
    "codes": "holds codes, which need no conversion; start an inversion from them with `lsap-jax invert --init`",
}


def own_encoder(source: Path, generator: str | None) -> bool:
    """Whether SRC was written by this package and is to be joined to a generator."""
    from lsap_jax.storage.weights_file import is_weights_file

    return generator is not None and source.is_file() and is_weights_file(source)


def convert_generator(args: Arguments, checkpoint: Checkpoint, source: Path, target: Path) -> int:
    """The generator (and discriminator) of a checkpoint, with its samples."""
    from lsap_jax.cli.runs import attached
    from lsap_jax.models.generator_file import from_checkpoint

    G = from_checkpoint(checkpoint)
    checkpoint.arrays.clear()  # G has copies in its own layouts: a 1024-px model need not be in memory twice
    G = attached(G, {"basecode": args.flags.add_basecode})
    facts = {**G.provenance, "name": target.stem, "source": source.name}
    G = replace(G, provenance_json=json.dumps(facts, sort_keys=True))
    wrote(target, G.save(target))
    return sample_grid(args, G, target)


def join(args: Arguments, source: Path, target: Path, checkpoint: Checkpoint | None = None) -> int:
    """A base-code encoder, alone or inside the file of `--generator`."""
    from lsap_jax.models.basecode_file import attach_basecode, basecode_from_checkpoint, load_basecode, save_basecode

    encoder: BasecodeEncoder
    if checkpoint is None:
        encoder = load_basecode(source)
    else:
        encoder = basecode_from_checkpoint(checkpoint, args.flags.base_resolution)
    facts = {"source": source.name} if checkpoint is None else provenance(checkpoint, source)
    if args.flags.generator is None:
        return wrote(target, save_basecode(target, encoder, {"name": target.stem, **facts}))
    from lsap_jax.models.generator_file import load_generator

    G = attach_basecode(load_generator(args.flags.generator), encoder)
    G = replace(G, provenance_json=json.dumps({**G.provenance, "basecode": facts}, sort_keys=True))
    wrote(target, G.save(target))
    return sample_grid(args, G, target)


def provenance(checkpoint: Checkpoint, source: Path) -> dict[str, Any]:
    """Where the weights of a checkpoint come from."""
    return {**checkpoint.provenance, "source": source.name}


def describe(checkpoint: Checkpoint) -> None:
    """Prints what was found in a file."""
    row("format", checkpoint.format)
    if checkpoint.kind == "stylegan2":
        for part in ("generator", "discriminator"):
            if part not in checkpoint.config:
                row(part, "none in this file")
                continue
            c = checkpoint.config[part]
            label = f", {c['c_dim']} classes" if c["c_dim"] else ""
            size = (
                f"{c['img_resolution']} px, {c['img_channels']} image channels, architecture {c['architecture']}{label}"
            )
            row(part, f"{size}, {count(checkpoint, part + '/'):,} parameters")
            row("channels", " ".join(map(str, c["channels"])) + " (from 4 px up)")
        g = checkpoint.config["generator"]
        row("mapping", f"z {g['z_dim']} to w {g['w_dim']} in {g['mapping_layers']} layers")
        estimated = any("w_avg" in note for note in checkpoint.notes)
        row("w_avg", "not in the file, see the note" if estimated else "from the file")
    else:
        facts = ", ".join(f"{key} {value}" for key, value in checkpoint.config.items())
        row(checkpoint.kind, f"{facts}, {count(checkpoint):,} parameters")
    reasons = Counter(checkpoint.ignored.values())
    row("ignored", "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common()) or "nothing")
    row("licence", checkpoint.licence or "not known: ask whoever published the file")
    for note in checkpoint.notes:
        row("note", note)


def row(name: str, value: str) -> None:
    """One line of the description."""
    print(f"{name:14} {value}")


def count(checkpoint: Checkpoint, prefix: str = "") -> int:
    """Number of values in the arrays under a prefix."""
    return sum(int(a.size) for name, a in checkpoint.arrays.items() if name.startswith(prefix))


def wrote(target: Path, digest: str) -> int:
    """Prints what was written; returns the status of success."""
    row("wrote", f"{target}, {target.stat().st_size / 1e6:.1f} MB, SHA-256 of the weights {digest}")
    return 0


def sample_grid(args: Arguments, G: "Generator", target: Path) -> int:
    """Renders samples beside the file, unless `--nogrid`."""
    if not args.flags.grid:
        return 0
    from lsap_jax.cli.generate import draw
    from lsap_jax.storage.pictures import grid, save_png

    number_of = 16 if G.img_resolution <= 256 else 4
    images = draw(G, list(range(number_of)), GRID_PSI, batch_size=4)
    row("samples", str(save_png(target.with_suffix(".samples.png"), grid(images))))
    return 0
