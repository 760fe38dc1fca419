"""What axe-core, which is fetched for this test alone, says of every screen in light and dark."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from service.page.conftest import picture

pytestmark = pytest.mark.slow
AXE = "axe-core@4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
# What the dark scheme can do wrong is contrast.
ONLY = {"light": {}, "dark": {"runOnly": {"type": "rule", "values": ["color-contrast"]}}}
SCREENS = ("try", "people", "person", "compare", "group", "jobs", "generate", "settings")


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core (MPL-2.0): not part of mien, kept among temporary files."""
    kept = Path(tempfile.gettempdir()) / "mien-tests" / f"{AXE}.js"
    if not kept.is_file():
        if shutil.which("npm") is None:
            pytest.skip("SKIPPED: no npm here to fetch axe-core with")
        with tempfile.TemporaryDirectory() as folder:
            asked = ["npm", "pack", "--silent", AXE, "--pack-destination", folder]
            try:
                subprocess.run(asked, check=True, capture_output=True, timeout=60, cwd=folder)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"SKIPPED: axe-core is out of reach: {error}")
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                member = archive.extractfile("package/axe.min.js")
                assert member is not None, "it is in every release"
                source = member.read()
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(source)
    source = kept.read_bytes()
    assert hashlib.sha256(source).hexdigest() == SHA256
    return source.decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_screen(visit, axe, scheme):
    here = visit(color_scheme=scheme, reduced_motion="reduce")
    ada = here.enrol("ada", picture(1, seed=1), picture(2, seed=2, quality=0.45))
    here.enrol("bob", picture(1, seed=3))
    page = here.open()
    page.evaluate(axe)
    found = []
    for screen in SCREENS if scheme == "light" else ("try", "people", "person", "settings"):
        page.evaluate(
            "place => { location.hash = place }", f"#/people/{ada['id']}" if screen == "person" else f"#/{screen}"
        )
        if screen == "try":
            here.drop(1, 4)
        page.wait_for_load_state("networkidle")
        page.locator("h1").first.wait_for()
        told = page.evaluate("only => axe.run({ resultTypes: ['violations'], ...only })", ONLY[scheme])
        found += [
            (screen, one["id"], one["impact"], one["nodes"][0]["html"][:160], one["nodes"][0]["failureSummary"][:200])
            for one in told["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    assert not found, "\n".join(map(str, found))
