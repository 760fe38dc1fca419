"""One error tree. A user's mistake is a `MienError`; a broken promise of ours is an `assert`.

Messages say what was expected, what came, and what to try. They are caught at the edge (`cli`, `service`)
and shown as one line, so they hold no names of people, no pixels and no vectors.
"""


class MienError(Exception):
    """Base of every error that a user can cause and mend."""


class UsageError(MienError):
    """Arguments or options that make no sense together."""


class ImageError(MienError):
    """A picture that cannot be read, or that is too large to read safely."""


class ModelError(MienError):
    """A model that is missing, altered, of the wrong shape, or cannot be pulled."""


class GalleryError(MienError):
    """A gallery that is locked, corrupt, too new, of another embedder, or lacks what was asked for."""


class EvaluationError(MienError):
    """A measurement that the given data cannot support."""


class DataError(MienError):
    """Pictures or labels to learn from that are missing, contradict each other, or stand in two splits."""


class TrainingError(MienError):
    """A training that cannot start, go on or be saved."""


class VideoError(MienError):
    """A video, stream or camera that cannot be opened or read, or a film that cannot be written."""


class ServiceError(MienError):
    """A service that refuses, is too busy, or cannot be reached."""
