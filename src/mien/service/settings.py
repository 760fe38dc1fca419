"""What a service is told when it starts, and how much it takes from a stranger."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from mien.errors import UsageError
from mien.images import Limits as PictureLimits

__all__ = ["Limits", "Settings", "default_folder", "is_loopback"]

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring, and how long anything may take.

    Attributes:
        request_bytes: Of the pictures of a request, headers left out.
        json_bytes: Of a request in JSON.
        archive_bytes: Of a zip for a job, which is streamed to the disk.
        unpacked_bytes: Of all pictures of a zip together.
        archive_pictures: Pictures of a zip.
        picture_bytes: Of one picture of a zip.
        pixels: Of one picture.
        pictures: Of one request.
        faces: Of one picture; the smallest beyond are left out, and that is said.
        idle_s: An upload that brings nothing for so long is cut.
        upload_s: Beyond so long an upload must bring `least_bytes_s` on average.
        least_bytes_s: Bytes a second.
        answer_s: How long the work on one request may take.
        wait_s: A request that would wait longer for its turn is refused with 429.
        head_s: How long a connection may take to send the head of its first request.
        connections: At one time.
    """

    request_bytes: int = 64 * MIB
    json_bytes: int = MIB
    archive_bytes: int = 2048 * MIB
    unpacked_bytes: int = 8192 * MIB
    archive_pictures: int = 100_000
    picture_bytes: int = 64 * MIB
    pixels: int = 50_000_000
    pictures: int = 20
    faces: int = 200
    idle_s: float = 10.0
    upload_s: float = 30.0
    least_bytes_s: float = 50_000.0
    answer_s: float = 60.0
    wait_s: float = 0.5
    head_s: float = 10.0
    connections: int = 512

    @property
    def picture(self) -> PictureLimits:
        """The same for one picture, as `mien.images.decode` takes it."""
        return PictureLimits(max_pixels=self.pixels, max_bytes=self.request_bytes, max_decoded_bytes=7 * self.pixels)


@dataclass(frozen=True, slots=True)
class Settings:
    """One service.

    Attributes:
        data: The service's folder: keys, jobs, audit log, and the galleries of its collections.
        gallery: File or URL of the collection `default`; None: a file in the folder.
        gallery_key: Key file of encrypted collections.
        host: Address to listen on.
        port: To listen on.
        hosts: Names by which it is called, beside its address; any where keys are needed and none are given.
        embedder: As of `mien.Analyzer`.
        detector: As of `mien.Analyzer`.
        rate: Requests a second of one key.
        streams: Sources that are watched all the time, for the collection `default`, by name.
        limits: See `Limits`.
    """

    data: Path
    gallery: str | None = None
    gallery_key: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8400
    hosts: tuple[str, ...] = ()
    embedder: str | None = None
    detector: str = "auto"
    rate: float = 100.0
    streams: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"A port is a number from 0 to 65535, got {self.port}.")
        if not self.rate > 0:
            raise UsageError(f"The rate of a key is more than 0 requests a second, got {self.rate:g}.")


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine reach a service on this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_folder() -> Path:
    """Return the service's folder where none is named."""
    return Path(platformdirs.user_data_dir("mien")) / "service"
