import json
import subprocess
import sys
from importlib.metadata import requires, version

import pytest

import mien

HEAVY = ("numpy", "cv2", "onnxruntime", "onnx", "faiss", "scipy", "PIL", "matplotlib", "jinja2", "rich", "cryptography")


def fresh_python(code):
    """Run code in a new interpreter and return what it prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", ["mien", "mien.cli.main"])
def test_importing_loads_nothing_heavy(module):
    loaded = fresh_python(f"import sys, json, {module}; print(json.dumps(list(sys.modules)))")

    assert module in loaded
    assert not [name for name in loaded if name.split(".")[0] in HEAVY]


def test_every_module_imports_without_pytorch_tensorflow_and_what_is_only_for_some_calls():
    torch = ("augmentation", "few_shot", "sequence", "within_person")
    studies = tuple(f"mien.studies.{name}" for name in torch)
    heavy = ("mien.networks", "mien.losses", "mien.training", "mien.data.transforms", *studies)
    writing_onnx = ("mien.zoo.foreign.", "mien.zoo.adding")  # imported where a file is converted or added
    lazy = ("torch", "tensorflow", "matplotlib", "jinja2", "rich", "cryptography", "faiss", "onnx", "onnxruntime")
    names = fresh_python(f"""
import importlib, json, pkgutil, sys
sys.modules.update(dict.fromkeys({lazy!r}))  # importing any of these now fails
import mien
names = [item.name for item in pkgutil.walk_packages(mien.__path__, "mien.") if not item.name.endswith("__main__")]
for name in names:
    if not name.startswith({heavy + writing_onnx!r}):
        importlib.import_module(name)
print(json.dumps(names))
""")

    assert {"mien.analyzer", "mien.vision.detector", "mien.gallery.gallery", "mien.cli.group"} <= set(names)


def test_installing_asks_for_neither_pytorch_nor_tensorflow():
    always = [line for line in requires("mien") if "extra ==" not in line]

    assert any(line.startswith("onnxruntime") for line in always)
    assert not [line for line in always if line.startswith(("torch", "tensorflow"))]


def test_every_public_name_is_there_and_listed():
    assert [name for name in mien.__all__ if getattr(mien, name).__name__ != name] == []
    assert dir(mien) == sorted(mien.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Analyser'"):
        _ = mien.Analyser


def test_the_package_says_that_it_is_typed():
    from importlib import resources

    assert resources.files("mien").joinpath("py.typed").is_file()
    assert version("mien").count(".") == 2
