"""A GAN: two networks that learn from each other, one to draw faces, the other to tell drawn from photographed."""

from mien.training.gan.config import VARIANTS, GANConfig, Health, configured
from mien.training.gan.story import DryRun, Trained, dry_run, train

__all__ = ["VARIANTS", "DryRun", "GANConfig", "Health", "Trained", "configured", "dry_run", "train"]
