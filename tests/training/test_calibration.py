import numpy as np
import pytest
import torch

from mien.training.calibration import fit_temperature, uncertainty_threshold


def test_temperature_undoes_overconfidence(rng):
    logits = rng.normal(size=(4000, 5)) * 2
    shares = torch.from_numpy(logits).softmax(1).numpy()
    labels = np.array([rng.choice(5, p=row) for row in shares])
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("target", [0.7, 0.9, 0.999])
def test_the_operating_point_agrees_with_trying_every_threshold(rng, target):
    sure = rng.uniform(0.2, 1.0, 300)
    right = rng.uniform(size=300) < sure
    point = uncertainty_threshold(sure, right, target)

    good = [t for t in [0.0, *sure] if (kept := sure >= t).sum() >= 150 and right[kept].mean() >= target]
    if good:
        assert (sure >= point).sum() == (sure >= min(good)).sum()
    else:
        assert (sure >= point).sum() == 150
