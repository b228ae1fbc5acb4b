"""The frontier of utility and harm, and the area under it (METHODS §7)."""

import numpy as np
from jaxtyping import Float


def progress(
    values: Float[np.ndarray, "*points"], aligned: Float[np.ndarray, "*ends"], finetuned: Float[np.ndarray, "*ends"]
) -> Float[np.ndarray, "*points"]:
    """An outcome on the scale from the aligned model (0) to the fine-tuned one (1), clipped to [0, 1].

    NaN where the two ends are equal.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share: np.ndarray = np.clip((values - aligned) / (finetuned - aligned), 0.0, 1.0)
        return share


def frontier_area(u: Float[np.ndarray, "*curves f"], h: Float[np.ndarray, "*curves f"]) -> Float[np.ndarray, "*curves"]:
    """Area under h(u), points in order from the aligned model to the fine-tune, pinned at (0, 0) and (1, 1).

    h is integrated against the running maximum of u, so that no interval counts twice where u decreases. Points with
    equal u make a vertical step, which has no area. h = u gives 0.5.
    """
    ends = [(0, 0)] * (u.ndim - 1) + [(1, 1)]
    reached = np.maximum.accumulate(np.pad(u, ends, constant_values=(0.0, 1.0)), axis=-1)
    height = np.pad(h, ends, constant_values=(0.0, 1.0))
    area: np.ndarray = (np.diff(reached) * (height[..., 1:] + height[..., :-1])).sum(-1) / 2
    return area
