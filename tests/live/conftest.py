"""A studio of the tiny generator with two directions and an encoder, served once for all tests of a file."""

from collections.abc import Iterator

import pytest
from served import Client, serving, tiny_directions

from lsap_jax.encoding.attach import with_encoder
from lsap_jax.live.studio import Studio, make_studio
from lsap_jax.testing import colour_encoder, tiny_generator


@pytest.fixture(scope="module")
def studio(quick_compilation) -> Studio:
    G = tiny_generator()
    return make_studio(with_encoder(G, colour_encoder(G)), "tiny.safetensors", directions=tiny_directions())


@pytest.fixture(scope="module")
def port(studio) -> Iterator[int]:
    with serving(studio) as found:
        yield found


@pytest.fixture
def client(port) -> Client:
    """A client with a session of its own."""
    found = Client(port)
    found.begin()
    return found
