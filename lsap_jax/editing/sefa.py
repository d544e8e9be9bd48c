"""SeFa: directions that change the styles most, in closed form from the weights (Shen & Zhou, CVPR 2021)."""

import numpy as np
from flax.traverse_util import flatten_dict

from lsap_jax.editing.direction import Direction
from lsap_jax.editing.layers import Layers, layer_rows
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces.statistics import principal_axes


def affine_weights(G: Generator, layers: Layers = None) -> np.ndarray:
    """[w_dim, Σ C] weights of the affine layers that read these rows: the convolutions', for the last row torgb's."""
    rows, params = layer_rows(layers, G.num_ws), flatten_dict(dict(G.params["synthesis"]))
    weights = [params[*layer.affine, "weight"] for layer in G.config.row_layers if layer.row in rows]
    return np.concatenate([np.asarray(weight, np.float64) for weight in weights], axis=1)


def sefa(G: Generator, components: int = 10, layers: Layers = None, unit_columns: bool = True) -> tuple[Direction, ...]:
    """The eigenvectors of A Aᵀ with the largest eigenvalues, A [w_dim, Σ C] of `affine_weights`, as directions of W.

    They maximise |nᵀ A|² over unit vectors n that are orthogonal to each other (equation 6 of the paper).

    Args:
        layers: range of the layers whose weights are used (`layer_rows`); the directions keep it.
        unit_columns: every column of A at length 1 first, as the authors' code does and the paper does not.

    Raises:
        LsapError: more components than w has dimensions, or no such layers.
    """
    if not 1 <= components <= G.w_dim:
        raise LsapError(f"{components} components: a generator of w_dim {G.w_dim} has 1 to {G.w_dim}")
    weights = affine_weights(G, layers)
    if unit_columns:
        weights = weights / np.maximum(np.linalg.norm(weights, axis=0, keepdims=True), np.finfo(np.float64).tiny)
    values, axes = principal_axes(weights @ weights.T)
    generator = G.network_sha256
    kept = None if layers is None else layer_rows(layers, G.num_ws)
    columns = "unit columns" if unit_columns else "columns as they are"
    return tuple(
        Direction(
            name=f"sefa-{k}",
            space="w",
            vector=axes[:, k].astype(np.float32),
            layers=kept,
            source=f"SeFa, component {k}, layers {'all' if kept is None else kept}, {columns}",
            generator=generator,
            measures={"share": float(values[k] / values.sum())},
        )
        for k in range(components)
    )
