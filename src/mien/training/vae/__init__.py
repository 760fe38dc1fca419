"""A VAE: an encoder that describes a face by latents, a decoder that draws faces from them, and a fitted prior."""

from mien.training.vae.config import VAEConfig, configured
from mien.training.vae.loading import SHIPPED, encode, load_vae
from mien.training.vae.story import DryRun, Trained, dry_run, train

__all__ = ["SHIPPED", "DryRun", "Trained", "VAEConfig", "configured", "dry_run", "encode", "load_vae", "train"]
