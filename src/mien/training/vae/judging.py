"""What a VAE is measured by, and the pictures that show it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int
from torch import Tensor

from mien.data.pictures import Pictures, as_rgb
from mien.losses import (
    gaussian_kl,
    gaussian_log_likelihood,
    optimal_sigma,
)
from mien.metrics.generation import sharpness
from mien.networks import VAE
from mien.networks.flow import LatentFlow
from mien.networks.vae import condition_vector
from mien.reporting.pictures import contact_sheet
from mien.training.precision import autocast
from mien.training.run import Run
from mien.training.vae.config import VAEConfig
from mien.training.vae.flow import Posteriors
from mien.training.vae.learning import HALF_RANGE
from mien.training.vae.loading import PART, Faces, encode
from mien.training.vae.material import Material
from mien.training.vae.prior import Prior, fit_prior

__all__ = ["REPORTED", "draw_sheets", "fit", "posteriors", "sample_posteriors", "validate"]

REPORTED = 2048  # pictures that a report looks at; the last one looks at all
_COLUMNS = 10  # pictures a row of the sheets


@torch.no_grad()
def _decode(
    model: VAE, latents: Float32[np.ndarray, "n latents"], condition: Tensor | None, config: VAEConfig
) -> Float32[np.ndarray, "n channels side side"]:
    """Return the pictures of latents."""
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(latents), PART):
        some = None if condition is None else condition[start : start + PART].to(device)
        with autocast(device, config.precision):
            parts.append(model.decode(torch.from_numpy(latents[start : start + PART]).to(device), some).cpu())
    return torch.cat(parts).numpy()


def _reconstructed(
    model: VAE, latents: Float32[np.ndarray, "n latents"], material: Material, pictures: Pictures, config: VAEConfig
) -> Iterator[tuple[Float32[np.ndarray, "part channels side side"], Faces]]:
    """Decode latents of pictures, and yield them beside these, a part at a time: all would take gigabytes."""
    for start in range(0, len(latents), PART):
        rows = slice(start, start + PART)
        yield _decode(model, latents[rows], material.condition(pictures, rows), config), pictures.images[rows]


def _squared_errors(
    model: VAE, material: Material, pictures: Pictures, config: VAEConfig
) -> tuple[Float32[Tensor, " pictures"], Float32[Tensor, "pictures latents"]]:
    """Return squared errors of reconstructions from one draw of each posterior, in half ranges, and the KL."""
    mean, log_variance = encode(model, pictures.images, precision=config.precision)
    noise = np.random.default_rng(0).standard_normal(mean.shape, dtype=np.float32)
    squares = np.concatenate(
        [
            np.square((drawn - real) / np.float32(HALF_RANGE)).reshape(len(real), -1).sum(1)
            for drawn, real in _reconstructed(
                model, mean + noise * np.exp(0.5 * log_variance), material, pictures, config
            )
        ]
    )
    return torch.from_numpy(squares), gaussian_kl(torch.from_numpy(mean), torch.from_numpy(log_variance))


def validate(model: VAE, material: Material, config: VAEConfig, *, most: int = REPORTED) -> dict[str, float]:
    """Measure a model on pictures that it has not learned from.

    The ELBO is of pixel values 0 to 255, in nats a picture, under a noise that was measured on training pictures: a
    lower bound of the log density, which compares with the nats that a lossless code needs.
    """
    valid, train = (
        material.valid.take(_spread_evenly(len(material.valid), most)),
        material.train.take(_spread_evenly(len(material.train), most)),
    )
    pixels = config.net.pixels
    learned, _ = _squared_errors(model, material, train, config)
    sigma = float(optimal_sigma(learned, pixels))
    squares, divergence = _squared_errors(model, material, valid, config)
    likelihood = gaussian_log_likelihood(squares, pixels, sigma) - pixels * math.log(HALF_RANGE)
    mean, log_variance = encode(model, valid.images, precision=config.precision)
    errors, sharp = list[np.ndarray](), np.zeros(2)
    for drawn, real in _reconstructed(model, mean, material, valid, config):
        errors.append(np.square(drawn.clip(0, 255) - real).reshape(len(real), -1).mean(axis=1))
        sharp += len(real) * np.array([sharpness(as_rgb(drawn)), sharpness(as_rgb(real))])
    return {
        "valid_elbo": float((likelihood - divergence.sum(1)).mean()),
        "valid_kl": float(divergence.sum(1).mean()),
        "valid_active_units": float((mean.var(axis=0) > 0.01).sum()),
        "valid_psnr": float((10 * np.log10(255**2 / np.maximum(np.concatenate(errors), 1e-6))).mean()),
        "valid_sharpness": float(sharp[0] / max(sharp[1], 1e-9)),
        "sigma": sigma * HALF_RANGE,
        # Of a perfect match of aggregate posterior and N(0, 1) the two sum to one.
        "valid_mean_square": float(np.square(mean).mean()),
        "valid_variance": float(np.exp(log_variance).mean()),
    }


def _spread_evenly(count: int, most: int) -> Int[np.ndarray, " some"]:
    """Return at most so many indices, spread evenly and always the same."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def fit(
    model: VAE, material: Material, config: VAEConfig, *, most: int | None = None
) -> tuple[Prior, Float32[np.ndarray, "pictures latents"]]:
    """Return the prior of what the training pictures' posteriors hold, and the posteriors' means."""
    train = material.train.take(_spread_evenly(len(material.train), most or len(material.train)))
    mean, log_variance = encode(model, train.images, precision=config.precision)
    latents = sample_posteriors(mean, log_variance, seed=config.seed)
    labels = train.labels if material.classes else None
    return fit_prior(latents, labels, components=config.components, seed=config.seed), mean


def posteriors(model: VAE, pictures: Pictures, material: Material, config: VAEConfig) -> Posteriors:
    """Return what the encoder says of pictures, and of their mirror images where the VAE learned from those, too."""
    views = [pictures.images, *([pictures.images[..., ::-1].copy()] if config.mirror else [])]
    parts = [encode(model, images, precision=config.precision) for images in views]
    condition = material.condition(pictures, slice(None))
    return Posteriors(
        np.concatenate([mean for mean, _ in parts]),
        np.exp(0.5 * np.concatenate([log_variance for _, log_variance in parts])),
        None if condition is None else np.concatenate([condition.numpy()] * len(views)),
        config.net.places,
    )


def sample_posteriors(
    mean: Float32[np.ndarray, "pictures latents"], log_variance: Float32[np.ndarray, "pictures latents"], *, seed: int
) -> Float64[np.ndarray, "pictures latents"]:
    """Return one draw of each posterior."""
    noise = np.random.default_rng(seed).standard_normal(mean.shape)
    return np.asarray(mean + noise * np.exp(0.5 * log_variance))


def draw_sheets(
    model: VAE,
    material: Material,
    config: VAEConfig,
    run: Run,
    *,
    prior: Prior | None = None,
    flow: LatentFlow | None = None,
) -> None:
    """Keep a sheet of reconstructions and sheets of samples, by class where there are classes."""
    valid = material.valid.take(_spread_evenly(len(material.valid), 3 * _COLUMNS))
    mean, _ = encode(model, valid.images, precision=config.precision)
    drawn = _decode(model, mean, material.condition(valid, slice(None)), config)
    rows = [
        picture
        for start in range(0, len(drawn), _COLUMNS)
        for part in (valid.images, drawn)
        for picture in part[start : start + _COLUMNS]
    ]
    title = "Above pictures held out, below them as they come back"
    run.picture(
        "reconstructions",
        contact_sheet([*as_rgb(np.stack(rows))], columns=_COLUMNS, side=_sheet_side(config), title=title),
    )

    prior = prior or fit(model, material, config, most=2 * REPORTED)[0]
    classes = material.classes or ("",)
    rng = np.random.default_rng(0)
    picked, labels_drawn = [], []
    for number, _ in enumerate(classes):
        fits = np.flatnonzero((prior.labels == number) | (prior.labels == -1))
        for _ in range(_COLUMNS if material.classes else 4 * _COLUMNS):
            k = int(rng.choice(fits, p=prior.weights[fits] / prior.weights[fits].sum()))
            picked.append(prior.means[k] + prior.factors[k] @ rng.standard_normal(config.net.latents))
            labels_drawn.append(number)
    z = np.array(picked, dtype=np.float32)
    attributes = None
    if names := material.train.attribute_names:
        some = material.train.attributes[rng.integers(len(material.train), size=len(z))]
        attributes = torch.from_numpy(some.reshape(len(z), len(names))).float()
    condition = condition_vector(torch.tensor(labels_drawn) if material.classes else None, len(classes), attributes)
    captions = [classes[number] for number in labels_drawn] if material.classes else None
    sheets = [
        ("samples", z, "Samples of the fitted mixture"),
        ("samples-normal", rng.standard_normal(z.shape, dtype=np.float32), "Samples of N(0, I)"),
    ]
    if flow is not None:
        noise = torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32))
        with torch.no_grad():
            sheets.append(("samples-flow", flow(noise, condition).numpy(), "Samples of the flow"))
    for name, latents, words in sheets:
        faces = [*as_rgb(_decode(model, latents, condition, config))]
        run.picture(
            name, contact_sheet(faces, columns=_COLUMNS, side=_sheet_side(config), captions=captions, title=words)
        )


def _sheet_side(config: VAEConfig) -> int:
    return config.net.side * (2 if config.net.side >= 32 else 4)
