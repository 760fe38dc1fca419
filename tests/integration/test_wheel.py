"""The wheel that users install, in an environment that knows nothing of this checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "mien"
SUFFIXES = (".onnx", ".safetensors", ".toml", ".html", ".json", ".md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built without the network."""
    for module in ("build", "setuptools"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"SKIPPED, {module} is not installed: pip install {module}")
    out, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("copy")  # Building leaves files in the tree.
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_weights_cards_catalogue_and_templates(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    wanted = {
        f"mien/{path.relative_to(SOURCE)}"
        for path in SOURCE.rglob("*")
        if path.suffix in SUFFIXES or path.name == "py.typed" or path.suffix == ".py"
    }

    assert {"mien/zoo/catalogue.toml", "mien/py.typed"} <= wanted
    assert any(name.endswith(".html") for name in wanted) and any(name.endswith(".onnx") for name in wanted)
    assert not wanted - inside


def test_mien_runs_from_the_wheel_in_a_fresh_environment(wheel, tmp_path):
    """Dependencies are those of this interpreter: the wheel is what is tested, not the index."""
    place = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = next(iter(place.rglob("site-packages")))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # What the checkout itself is installed by, an editable finder, must not be seen.
    links = [path for path in map(Path, sys.path) if path.name == "site-packages"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MIEN"))}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, [site, *links])), "MIEN_HOME": str(tmp_path / "home")}

    def mien(*arguments):
        command = [str(python), "-m", "mien", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    code = "import mien; print(mien.__file__)"
    command = [str(python), "-c", code]
    where = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert Path(where.stdout.strip()).is_relative_to(site), where.stdout + where.stderr
    version = mien("--version")
    assert version.returncode == 0 and version.stdout.startswith("mien "), version.stderr
    doctor = mien("--offline", "doctor")
    assert "Traceback" not in doctor.stderr and doctor.stdout, doctor.stderr
