"""What a command compiles before its first step: programs, their instructions, and seconds of processor time.

    python benchmarks/compile.py [--cases NAME ...] [--rounds 1] [--checkout PATH] [--programs 8]

Every case is `lsap-jax invert` of one image in a fresh process, with no compiled program at hand. `--checkout` runs
the code of another tree, e.g. an older commit: `git archive COMMIT | tar -x -C PATH`. Seconds are processor time of all
threads, which other work on the machine distorts little; `wall` is what a user waits for the first step, on this
machine now. The first table has a row per case: until the imports are done, until the first step is compiled, until it
is computed, and the whole command. The second has the programs that took longest: operations that jax hands over,
instructions after the compiler's passes, and seconds to trace, lower and compile.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ("--generator", "toonhead64")
LARGE = ("--generator", "{folder}/large.safetensors", "--perceptual", "{folder}/lpips.safetensors")
# name -> arguments of `lsap-jax invert`
CASES = {
    "64 f/z+": (*BUNDLED, "--space", "f/z+"),
    "64 w+": (*BUNDLED, "--space", "w+"),
    "256 f/z+": (*LARGE, "--space", "f/z+", "--config.compute.winograd=0"),
    "256 f/z+ winograd": (*LARGE, "--space", "f/z+", "--config.compute.winograd=256"),
}
EVENT = "/jax/core/compile"
PHASES = {
    f"{EVENT}/jaxpr_trace_duration": "trace",
    f"{EVENT}/jaxpr_to_mlir_module_duration": "lower",
    f"{EVENT}/backend_compile_duration": "compile",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--rounds", type=int, default=1, help="processes per case; the table has the quickest")
    parser.add_argument("--checkout", default=str(ROOT), help="the tree whose code runs")
    parser.add_argument("--programs", type=int, default=8, help="how many of a case's programs to show")
    parser.add_argument("--flags", default="", help="XLA_FLAGS of the command")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        folder, case = args.child.split(":", 1)
        print(json.dumps(measured(CASES[case], folder) if case else prepare(Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        child(args, "", folder)
        found = {
            name: min((child(args, name, folder) for _ in range(args.rounds)), key=lambda f: f["first step"])
            for name in args.cases
        }
    print("| case | programs | operations | instructions | imports | first step compiled | first step | whole | wall |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in found.items():
        size = [sum(p[key] for p in row["programs"]) for key in ("operations", "instructions")]
        marks = " | ".join(f"{row[key]:.1f}" for key in ("imports", "compiled", "first step", "whole", "wall"))
        print(f"| {name} | {len(row['programs'])} | {size[0]} | {size[1]} | {marks} |")
    print("\n| case | program | operations | instructions | trace | lower | compile |\n|---|---|---|---|---|---|---|")
    for name, row in found.items():
        programs = sorted(row["programs"], key=lambda p: -p["trace"] - p["lower"] - p["compile"])
        shown, others = programs[: args.programs], programs[args.programs :]
        if others:
            rest = {key: sum(p[key] for p in others) for key in others[0] if key != "program"}
            shown.append({"program": f"{len(others)} others", **rest})
        for p in shown:
            times = " | ".join(f"{p[key]:.2f}" for key in PHASES.values())
            print(f"| {name} | {p['program']} | {p['operations']} | {p['instructions']} | {times} |")


def prepare(folder: Path) -> None:
    """An image, and networks for 256 px, in files of the tree whose code runs: other trees may not read them."""
    import numpy as np
    from PIL import Image
    from step import networks

    from lsap_jax.storage.weights_file import write_weights

    side = np.linspace(0, 255, 256)
    picture = np.stack(np.broadcast_arrays(side[:, None], side[None, :], 128.0), axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(folder / "image.png")
    G, _, backbone, lin = networks(256, 16384)
    G.save(folder / "large.safetensors")
    write_weights(folder / "lpips.safetensors", "lpips", {**backbone, **lin}, {"name": "vgg16"}, {})


def child(args: argparse.Namespace, name: str, folder: str) -> Any:
    """What a process of its own measured in a case; without a name it makes the files of all cases."""
    paths = (args.checkout, f"{args.checkout}/benchmarks")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_COMPILATION_CACHE_DIR": "",
        "JAX_PLATFORMS": "cpu",
    }
    if args.flags:
        environment["XLA_FLAGS"] = args.flags
    command = [sys.executable, "-P", __file__, f"--child={folder}:{name}"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: the command failed")
    return json.loads(done.stdout.splitlines()[-1])


def measured(arguments: tuple[str, ...], folder: str) -> dict[str, Any]:
    """Runs the command: seconds of processor time up to each mark, and the programs."""
    started = time.perf_counter()
    marks: dict[str, float] = {}
    noted: list[tuple[list[dict[str, float]], list[Any]]] = []
    from lsap_jax.cli import invert
    from lsap_jax.cli import main as command

    run = invert.run

    def watched(args: Any) -> int:
        """The command begins here, with everything set that has to be set before jax starts."""
        import jax

        from lsap_jax.inversion.inverter import Inverter

        marks["imports"] = seconds()
        noted.append(listen())
        advance = Inverter.advance

        def marked(*args: Any) -> Any:
            found = advance(*args)
            if "compiled" not in marks:
                marks["compiled"] = seconds()
                jax.block_until_ready(found)
                marks["first step"], marks["wall"] = seconds(), time.perf_counter() - started
            return found

        Inverter.advance = marked  # type: ignore[method-assign]
        return run(args)

    invert.run = watched
    own = [one.format(folder=folder) for one in arguments]
    with tempfile.TemporaryDirectory() as out:
        steps = ["--steps", "1", "--batch_size", "1", "--out", f"{out}/run"]
        if command(["invert", f"{folder}/image.png", *own, *steps]):
            raise SystemExit("the command failed")
    marks["whole"] = seconds()
    (events, modules), *_ = noted
    programs = [
        {"program": name, "operations": operations(module), "instructions": instructions(made), **took}
        for took, (name, module, made) in zip(events, modules, strict=True)
    ]
    return {"programs": programs, **marks}


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def listen() -> tuple[list[dict[str, float]], list[Any]]:
    """Two lists that grow while programs are made: seconds of each phase, and (name, module, executable).

    What is traced for its shapes alone counts for the next program.
    """
    import jax
    from jax._src import compiler

    times: list[dict[str, float]] = []
    modules: list[Any] = []
    under_way: list[list[float]] = []  # when each phase began, and the seconds of phases inside it
    spent = dict.fromkeys(PHASES.values(), 0.0)

    def begins(event: str, value: float, **_: Any) -> None:
        if event in PHASES:
            under_way.append([seconds(), 0.0])

    def ends(event: str, value: float, **_: Any) -> None:
        if event not in PHASES or not under_way:
            return
        began, inside = under_way.pop()
        took = seconds() - began
        if under_way:
            under_way[-1][1] += took
        spent[PHASES[event]] += took - inside
        if PHASES[event] == "compile":
            times.append(dict(spent))
            spent.update(dict.fromkeys(spent, 0.0))

    jax.monitoring.register_scalar_listener(begins)
    jax.monitoring.register_event_duration_secs_listener(ends)
    backend_compile = compiler.backend_compile_and_load

    def noted(backend: Any, module: Any, *args: Any, **options: Any) -> Any:
        made = backend_compile(backend, module, *args, **options)
        modules.append((str(module.operation.attributes["sym_name"]).strip('"'), module, made))
        return made

    compiler.backend_compile_and_load = noted
    return times, modules


def operations(module: Any) -> int:
    """Operations that jax hands over, those of all functions of the module."""
    from jaxlib.mlir import ir

    found = 0

    def visit(_: Any) -> Any:
        nonlocal found
        found += 1
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


def instructions(made: Any) -> int:
    """Instructions after the compiler's passes, those inside fusions included."""
    return sum(module.to_string().count(" = ") for module in made.hlo_modules())


if __name__ == "__main__":
    main()
