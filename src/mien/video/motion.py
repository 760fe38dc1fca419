"""Where a face will be: a Kalman filter with constant velocity, in px and seconds.

The state is centre, width and height with their velocities. All noise is in units of the face's side, so a face near
the camera may move as many px as it likes.

Source: R. E. Kalman, 1960; the scaling by size follows N. Wojke et al., "Simple online and realtime tracking with a
deep association metric", arXiv:1703.07402.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from mien.types import Box

__all__ = ["Motion"]

_PLACE, _SIZE = 0.04, 0.05  # standard deviation of a detection's centre and size, in sides
_PUSH, _GROWTH = 3.0, 0.6  # of the acceleration, in sides a second squared
_FIRST = 2.0  # of the velocity before anything moved, in sides a second


class Motion:
    """Position, size and velocity of one face.

    Args:
        box: Where it is.
        time_s: When.
    """

    def __init__(self, box: Box, time_s: float) -> None:
        self.time_s = time_s
        self._state = np.concatenate([_measured(box), np.zeros(4)])
        side = max(box.side, 1.0)
        self._cov = np.diag([(_PLACE * side) ** 2] * 2 + [(_SIZE * side) ** 2] * 2 + [(_FIRST * side) ** 2] * 4)

    @property
    def box(self) -> Box:
        """Where the face is expected at ``time_s``."""
        x, y, width, height = self._state[:4].tolist()
        width, height = max(width, 1.0), max(height, 1.0)
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    @property
    def speed(self) -> float:
        """Sides a second."""
        return float(np.hypot(*self._state[4:6])) / max(self.box.side, 1.0)

    def predict(self, time_s: float) -> None:
        """Go on to a time; one that has passed already changes nothing."""
        step = time_s - self.time_s
        if step <= 0:
            return
        self.time_s = time_s
        forward = np.eye(8)
        forward[:4, 4:] = step * np.eye(4)
        side = max(self.box.side, 1.0)
        push = (np.array([_PUSH, _PUSH, _GROWTH, _GROWTH]) * side) ** 2
        # White acceleration over the step, see any text on the filter.
        noise = np.zeros((8, 8))
        noise[:4, :4] = np.diag(push) * step**4 / 4
        noise[:4, 4:] = noise[4:, :4] = np.diag(push) * step**3 / 2
        noise[4:, 4:] = np.diag(push) * step**2
        self._state = forward @ self._state
        self._cov = forward @ self._cov @ forward.T + noise

    def correct(self, box: Box) -> None:
        """Take a detection at ``time_s`` into account."""
        side = max(box.side, 1.0)
        noise = np.diag([(_PLACE * side) ** 2] * 2 + [(_SIZE * side) ** 2] * 2)
        gain = np.linalg.solve(self._cov[:4, :4] + noise, self._cov[:4]).T
        self._state = self._state + gain @ (_measured(box) - self._state[:4])
        self._cov = self._cov - gain @ self._cov[:4]

    def slow(self, factor: float) -> None:
        """Multiply the velocity: a face that nobody sees is not trusted to go on as it did."""
        self._state[4:] *= factor


def _measured(box: Box) -> Float64[np.ndarray, 4]:
    return np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2, box.width, box.height])
