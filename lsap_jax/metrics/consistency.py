"""Latent editing consistency (LEC), e4e's measure of codes that can be edited and found again.

A code is edited, its picture is inverted again, and the edit is taken back. What is left is

    LEC = |w - (E(G(w + d)) - d)|

over all rows. Codes that lie where the encoder was trained to put them come back; those that an edit moves out of its
reach do not. References: Tov et al., Designing an Encoder for StyleGAN Image Manipulation (arXiv 2102.02766), §5.
"""

import numpy as np

PERCENTILES = (1.0, 99.0)


def lec(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """[N] Euclidean distances of codes [N, ...] over all of their axes."""
    return np.sqrt(np.square(last.astype(np.float64) - first).reshape(len(first), -1).sum(axis=1))


def trimmed(values: np.ndarray) -> np.ndarray:
    """Values [D, S, N] with NaN in place of those outside the 1st to 99th percentile of their column S, whose mean is
    then e4e's trimmed one.
    """
    found = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        own = values[:, column]
        if np.isfinite(own).any():
            low, high = np.nanpercentile(own, PERCENTILES)
            found[:, column] = np.where((own >= low) & (own <= high), own, np.nan)
    return found
