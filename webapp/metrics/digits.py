"""Numbers as short as a chart needs them."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def rounded(values: Floats, digits: int = 5) -> Floats:
    """Values at that many significant digits; NaN stays, and what is too small for that is left as it is."""
    size = np.abs(values)
    ordinary = (size > 1e-290) & np.isfinite(values)
    places = np.full(len(values), digits - 1, "i8")
    places[ordinary] -= np.floor(np.log10(size[ordinary])).astype("i8")
    # A power of ten that divides is exact where one below 1 would not be, so that 0.3 comes out as 0.3.
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        result = np.rint(values * up / down) / up * down
    return np.where(ordinary, result, values)
