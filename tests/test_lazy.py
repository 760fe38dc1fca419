import importlib
import json
import subprocess
import sys

import pytest

from mien.lazy import attributes

PACKAGES = ("mien", "mien.evaluation", "mien.gallery", "mien.reporting", "mien.zoo")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_that_a_package_lists_is_found(package):
    module = importlib.import_module(package)

    assert module.__all__ and all(getattr(module, name) is not None for name in module.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_none_of_its_modules(package):
    code = f"import json, sys, {package}; print(json.dumps([name for name in sys.modules if name.startswith('mien')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(json.loads(done.stdout)) == {"mien", "mien.lazy", package}


def test_a_name_that_is_not_listed_is_none_of_the_package():
    find = attributes("mien", {"errors": ["MienError"]})

    assert find("MienError").__name__ == "MienError"
    with pytest.raises(AttributeError, match="'mien' has no attribute 'UsageError'"):
        find("UsageError")


def test_what_is_put_in_the_place_of_a_function_is_found_through_its_package(monkeypatch):
    from mien import zoo
    from mien.zoo import fetch

    monkeypatch.setattr(fetch, "offline", lambda: "neither")

    assert zoo.offline() == "neither"
