"""The largest batch whose steps fit into the memory of the devices. The compiled programs report what they need, so
that no batch has to run out of memory first.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax

from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter

MEMORY_FILE = Path("/proc/meminfo")
SHARE = 0.85  # of the free memory; the rest is for what runs beside the steps
SMALL, LARGE = 2, 6  # images per device of the two programs that the line is drawn through


def largest_batch(
    inverter: Inverter, images: int, following: Callable[[int], jax.stages.Compiled] | None = None
) -> int:
    """The largest batch size, over all devices of the inverter, that fits, and at most what `images` need.

    Memory is a constant and a part per image: two programs give both, a third one confirms the outcome.

    Args:
        following: gives the program that comes after the steps, if there is one, for so many images on one device.

    Raises:
        LsapError: not even the smallest batch fits, or the devices do not report their memory.
    """
    devices = inverter.devices
    limit = SHARE * free_bytes(devices[0], len(devices))

    @cache
    def used(count: int) -> int:
        return max(step_bytes(inverter, count), 0 if following is None else program_bytes(following(count)))

    per_image = (used(LARGE) - used(SMALL)) / (LARGE - SMALL)
    wanted = -(-images // len(devices))
    count = max(min(int(SMALL + (limit - used(SMALL)) // max(per_image, 1)), wanted), 1)
    while used(count) > limit:
        if count == 1:
            raise LsapError(
                f"one image per device takes {used(1) / 2**30:.2g} GiB, and {limit / 2**30:.2g} GiB are "
                "free for it; lower perceptual.resolution, or take a generator of fewer pixels"
            )
        count = max(min(int(count * limit / used(count)), count - 1), 1)
    return min(count * len(devices), max(images, 1))


def explained(error: Exception, inverter: Inverter) -> Exception:
    """The error to raise for a batch's error; where memory was short, it names the batch size that would fit."""
    size = inverter.config.batch_size
    if "RESOURCE_EXHAUSTED" not in str(error) or size == 1:
        return error
    fits = largest_batch(inverter, size - 1)
    return LsapError(f"batch_size={size} does not fit into the memory of the device; {fits} would")


def free_bytes(device: jax.Device, devices: int) -> float:
    """Free memory of a device; CPU devices share that of the machine.

    Raises:
        LsapError: the device does not report it.
    """
    if device.platform == "cpu":
        lines = MEMORY_FILE.read_text().splitlines() if MEMORY_FILE.is_file() else []
        found = [line for line in lines if line.startswith("MemAvailable:")]
        if found:
            return int(found[0].split()[1]) * 1024 / devices
    else:
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    raise LsapError(f"{device}: does not report how much memory is free; give --batch_size a number")


def step_bytes(inverter: Inverter, count: int) -> int:
    """Memory that a device needs for the steps of `count` images: networks, state, targets and everything between, by
    the compiler's own account.
    """
    return program_bytes(inverter.step_program(count))


def program_bytes(program: jax.stages.Compiled) -> int:
    """Memory that a device needs for a program.

    Raises:
        LsapError: the compiler does not report it.
    """
    found = program.memory_analysis()
    if found is None:
        raise LsapError("the compiler of this backend does not report memory; give --batch_size a number")
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes)
