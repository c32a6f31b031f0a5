"""The shapes of a layer's arrays, as signatures name them, and the tests check them.

An axis is one letter: n images of H rows, W columns and C channels; output positions h, w; kernel
offsets i, j; c channels of a group and f features; p, q pools per position axis; K = i * j * c
weights of a feature. The first of three spatial axes is D, d, l or o. Within one call, a letter is
one number. Dtypes are floating ones of any width.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Float

# Filters of a layer, one at every position, and those of its pools.
Filters: TypeAlias = (
    Float[Array, "w j c f"] | Float[Array, "h w i j c f"] | Float[Array, "d h w l i j c f"]
)
PoolFilters: TypeAlias = (
    Float[Array, "q j c f"] | Float[Array, "p q i j c f"] | Float[Array, "o p q l i j c f"]
)
NumpyFilters: TypeAlias = (
    Float[np.ndarray, "w j c f"]
    | Float[np.ndarray, "h w i j c f"]
    | Float[np.ndarray, "d h w l i j c f"]
)
Packed: TypeAlias = Float[Array, "w f K"] | Float[Array, "h w f K"] | Float[Array, "d h w f K"]

# What implementations read and write: the batch is last.
Images: TypeAlias = Float[Array, "W C n"] | Float[Array, "H W C n"] | Float[Array, "D H W C n"]
Outputs: TypeAlias = Float[Array, "w f n"] | Float[Array, "h w f n"] | Float[Array, "d h w f n"]

# The batch first or last: how many axes, not how large.
AnyImages: TypeAlias = (
    Float[Array | np.ndarray, "_n _W _C"]
    | Float[Array | np.ndarray, "_n _H _W _C"]
    | Float[Array | np.ndarray, "_n _D _H _W _C"]
)
AnyOutputs: TypeAlias = (
    Float[Array, "_n _w _f"] | Float[Array, "_n _h _w _f"] | Float[Array, "_n _d _h _w _f"]
)
