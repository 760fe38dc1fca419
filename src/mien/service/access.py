"""Who asks, from where, how often, and what they may do."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mien.service.keys import EVERY, SCOPES, Key, Keys
from mien.service.problems import Problem
from mien.service.settings import Settings, is_loopback

__all__ = ["LOCAL", "Caller", "Doorman", "Rates"]

WRITES = ("POST", "PUT", "PATCH", "DELETE")
_MOST_KNOWN = 10_000  # callers whose rate is remembered


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        key: The key that was sent; None: nobody who must show one.
        grants: Scope by collection.
    """

    key: Key | None
    grants: Mapping[str, str]

    @property
    def id(self) -> str:
        """Of the key, or `local`."""
        return "local" if self.key is None else self.key.id

    def scope(self, collection: str) -> str | None:
        """Return what they may do in a collection; None: nothing, as if there were none of that name."""
        held = [scope for name in (collection, EVERY) if (scope := self.grants.get(name)) is not None]
        return max(held, key=SCOPES.index, default=None)

    @property
    def only_collection(self) -> str | None:
        """The collection that is meant where none is named: that of a key for one; None otherwise."""
        named = list(self.grants)
        return named[0] if len(named) == 1 and named[0] != EVERY else None


LOCAL = Caller(None, {EVERY: "admin"})
"""Whoever asks a service on loopback for which no key was ever made."""

NOBODY = Caller(None, {})


class Rates:
    """Requests a second by caller: a bucket each, that holds two seconds' worth.

    Args:
        rate: Requests a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(2 * rate, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str, *, at: float | None = None) -> float:
        """Count a request; return 0, or how many seconds too early it came."""
        now = time.monotonic() if at is None else at
        with self._lock:
            left, then = self._buckets.pop(caller, (self._most, now))
            left = min(left + (now - then) * self._rate, self._most)
            early = 0.0 if left >= 1 else (1 - left) / self._rate
            self._buckets[caller] = (left if early else left - 1, now)
            while len(self._buckets) > _MOST_KNOWN:
                self._buckets.popitem(last=False)
        return early


class Doorman:
    """Lets requests in, or says why not.

    Args:
        settings: Of the service.
        keys: That open it.
    """

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._settings, self._keys = settings, keys
        self._rates, self._failures = Rates(settings.rate), Rates(2.0)

    @property
    def keys_required(self) -> bool:
        """Whether a key is needed: beyond loopback, and everywhere once one was made, revoked ones included.

        Behind a proxy on this machine everybody seems to come from loopback, so that a service with keys asks for one
        there too; and revoking the last key opens nothing.
        """
        return not is_loopback(self._settings.host) or bool(self._keys.every())

    def check_place(self, method: str, headers: Mapping[str, str]) -> None:
        """Refuse what a foreign page made a browser send.

        Raises:
            Problem: 403: a foreign page, or a name that is not this service's, as in DNS rebinding.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            raise Problem(403, "This service is not called by that name. Start it with --allow-host NAME to allow it.")
        site = headers.get("sec-fetch-site")
        top = headers.get("sec-fetch-mode") == "navigate" and method == "GET"
        if site in ("cross-site", "same-site") and not top:
            raise Problem(403, "Pages of other sites may not use this service.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Problem(403, "Pages of other sites may not use this service.")

    def _is_own(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "") if _parses(host) else ""
        own = {self._settings.host.strip("[]").lower(), *(known.lower() for known in self._settings.hosts)}
        if is_loopback(self._settings.host):
            own |= {"localhost", "127.0.0.1", "::1"}
        elif not self._settings.hosts:
            return True  # a foreign page has no key, whatever it calls us
        return name in own

    def admit(self, authorization: str | None, client: str) -> Caller:
        """Return who asks, by their key.

        Raises:
            Problem: 401: the key is wrong, expired or revoked; 429: too many requests, or too many wrong keys.
        """
        if authorization is None:
            return NOBODY if self.keys_required else LOCAL
        kind, _, text = authorization.partition(" ")
        found = self._keys.find(text.strip()) if kind.lower() == "bearer" else None
        why = "is not known here" if found is None else found.refusal()
        if found is None or why is not None:
            if early := self._failures.take(client):
                raise Problem(429, "Too many wrong keys came from there. Wait a little.", retry_after(early))
            raise no_entry(f"The key {why}. Ask whoever runs the service for another.")
        if early := self._rates.take(found.id):
            raise Problem(429, f"More than {self._settings.rate:g} requests a second with one key.", retry_after(early))
        self._keys.used(found)
        return Caller(found, found.grants)

    def check_write(self, caller: Caller, headers: Mapping[str, str]) -> None:
        """Refuse a write that a plain form of a foreign page could have sent.

        Raises:
            Problem: 403: neither a key nor the header ``X-Mien``.
        """
        if caller.key is None and "x-mien" not in headers:
            raise Problem(403, "A change without a key needs the header 'X-Mien: 1' (curl: -H 'X-Mien: 1').")


def no_entry(detail: str) -> Problem:
    """Return the problem of a missing or wrong key."""
    return Problem(401, detail, {"WWW-Authenticate": 'Bearer realm="mien"'})


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to come again."""
    return {"Retry-After": str(max(1, round(seconds + 0.5)))}


def _parses(host: str) -> bool:
    try:
        _ = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return True
