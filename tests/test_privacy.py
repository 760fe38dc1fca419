"""What mien leaves behind and whom it tells."""

import os
import subprocess
import sys

from zoo.nets import embedder

CODE = """
import sys, time
import numpy as np
from pathlib import Path
from mien.zoo.session import make_session

session = make_session(Path(sys.argv[1]))
session.run(None, {"x": np.zeros((1, 3, 112, 112), np.float32)})
time.sleep(0.3)
"""


def test_running_a_network_leaves_nothing_behind(tmp_path):
    """ONNX Runtime would collect facts about the machine in the cache folder, to be sent."""
    model = embedder().save(tmp_path / "m.onnx")
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}

    subprocess.run([sys.executable, "-c", CODE, str(model)], env={**kept, "HOME": str(tmp_path / "home")}, check=True)

    assert list((tmp_path / "home").rglob("*")) == []
