"""Pictures with labels: read them in any usual layout, check them, cut the faces out, and vary them for training."""
