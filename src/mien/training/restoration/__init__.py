"""A network that restores spoilt faces: what it learns from, how, and the story of its training."""

from mien.training.restoration.config import RestorationConfig
from mien.training.restoration.story import DryRun, Trained, dry_run, load_restorer, train

__all__ = ["DryRun", "RestorationConfig", "Trained", "dry_run", "load_restorer", "train"]
