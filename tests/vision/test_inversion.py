"""The noise behind latents."""

import numpy as np

from mien.vision.inversion import inverted


def test_noise_is_found_that_a_bent_flow_carries_to_the_latents(rng):
    turn, _ = np.linalg.qr(np.eye(5) + 0.3 * rng.normal(size=(5, 5)))

    def carried(noise):
        return (3 + 0.1 * (noise + 0.4 * np.tanh(noise @ turn))).astype(np.float32)

    truth = rng.normal(size=(20, 5)).astype(np.float32)
    noise = inverted(carried, carried(truth))

    assert np.abs(carried(noise) - carried(truth)).max() < 0.01  # a tenth of a standard deviation
    assert np.abs(noise - truth).mean() < 0.1
