"""Comparison with reference vectors; the largest deviation of every group is printed at the end of the test run."""

import numpy as np

RTOL, ATOL = 1e-4, 1e-5  # atol is relative to the largest reference value
deviations: dict[str, tuple[float, str]] = {}


def assert_parity(group: str, name: str, found, reference, rtol: float = RTOL, atol: float = ATOL) -> None:
    """Within rtol 1e-4 and atol 1e-5 · max|ref|; records max|found - ref| / max|ref| of the group."""
    found, reference = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    assert found.shape == reference.shape, f"{group}/{name}: {found.shape} against {reference.shape}"
    largest = float(np.abs(reference).max()) or 1.0
    deviation = float(np.abs(found - reference).max()) / largest
    if deviation >= deviations.get(group, (0.0, ""))[0]:
        deviations[group] = (deviation, name)
    np.testing.assert_allclose(found, reference, rtol=rtol, atol=atol * largest, err_msg=f"{group}/{name}")


def nhwc(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(a, 1, -1)
