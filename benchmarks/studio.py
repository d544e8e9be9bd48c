"""Latency of the studio: from a request with a slider's new strength to the whole answer with the picture.

    python benchmarks/studio.py [--requests 200] [--cases 64 256] [--beside]

`lsap-jax studio` runs in a process of its own, and this one asks it over HTTP, one request after the other, as the page
does. 64 is the bundled generator, with an encoded photograph; 256 is a generator of StyleGAN2's shape with random
weights, with a sample. `--beside` has another client invert a photograph meanwhile.
"""

import argparse
import base64
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--cases", type=int, nargs="+", default=[64, 256], choices=[64, 256])
    parser.add_argument("--beside", action="store_true", help="while another client inverts a photograph")
    args = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print("| px | sliders | median, ms | p95, ms | worst, ms |\n|---|---|---|---|---|")
    for case in args.cases:
        with tempfile.TemporaryDirectory() as folder:
            generator = "toonhead64" if case == 64 else random_generator(Path(folder), case)
            with serving(generator) as port:
                for sliders in (1, 5):
                    seconds = 1000 * np.array(latencies(port, case == 64, sliders, args.requests, args.beside))
                    marks = " | ".join(f"{x:.0f}" for x in (*np.quantile(seconds, [0.5, 0.95]), seconds.max()))
                    print(f"| {case} | {sliders} | {marks} |", flush=True)


def random_generator(folder: Path, resolution: int) -> str:
    """File of a generator with random weights."""
    from step import networks

    G, *_ = networks(resolution, 16384)
    path = folder / f"random{resolution}.safetensors"
    G.save(path)
    return str(path)


@contextmanager
def serving(generator: str) -> Iterator[int]:
    """The port of a studio in a process of its own."""
    command = [sys.executable, "-m", "lsap_jax", "studio", "--generator", generator, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = next((match for line in process.stdout if (match := ADDRESS.search(line))), None)
            if found is None:
                raise SystemExit("the studio did not start")
            yield int(found[1])
        finally:
            process.terminate()


class Client:
    """A session with a studio, over one connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.headers = {"content-type": "application/json"}
        self.info = self.ask("begin")
        self.headers["studio-client"] = self.info["client"]

    def ask(self, operation: str, **asked: Any) -> dict[str, Any]:
        """The answer of an operation."""
        self.connection.request("POST", f"/api/{operation}", json.dumps(asked), self.headers)
        *_, last = (line for line in self.connection.getresponse().read().splitlines() if line)
        return json.loads(last)["done"]  # type: ignore[no-any-return]

    def photo(self) -> str:
        """The key of a bundled photograph."""
        from lsap_jax.data.bundled import sample_images

        path = sorted(Path(sample_images()).glob("*.png"))[0]
        data = base64.b64encode(path.read_bytes()).decode()
        return str(self.ask("photo", name=path.name, data=data)["photo"]["key"])


def latencies(port: int, encoded: bool, sliders: int, requests: int, beside: bool) -> list[float]:
    """Seconds of each request, after the first ten."""
    client = Client(port)
    if encoded:
        take = client.ask("take", photo=client.photo(), way="encode")["take"]
    else:
        take = client.ask("sample", seed=0)["take"]
    texts = [client.ask("direction", take=take["key"], direction=f"random:{seed}") for seed in range(sliders)]
    names = [one["direction"]["name"] for one in texts]
    ended = threading.Event()
    if beside:
        other = Client(port)
        photo = other.photo()
        way = {"way": "w+", "steps": 10_000}
        inverting = threading.Thread(target=lambda: _until(ended, other, photo, way), daemon=True)
        inverting.start()
        time.sleep(20)  # until it is compiled
        client.connection.close()  # the studio closed it meanwhile; the next request opens one
    found = []
    for k in range(requests + 10):
        strengths = [{"name": name, "strength": np.sin(k / 9 + i)} for i, name in enumerate(names)]
        started = time.perf_counter()
        client.ask("picture", takes=[{"take": take["key"]}], sliders=strengths)
        found.append(time.perf_counter() - started)
    ended.set()
    return found[10:]


def _until(ended: threading.Event, client: Client, photo: str, way: dict[str, Any]) -> None:
    """Inverts a photograph, and closes the connection when that is no longer wanted."""
    body = json.dumps({"photo": photo, **way})
    client.connection.request("POST", "/api/take", body, client.headers)
    answer = client.connection.getresponse()
    while not ended.is_set() and answer.readline():
        continue
    client.connection.close()


if __name__ == "__main__":
    main()
