"""docs/architecture.md agrees with the code: its tree, its layers, and every path that it names."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/mien"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def block(kind, page=PAGE):
    return re.search(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]


def listed(tree):
    """Return what a tree lists: paths without ending, packages with a slash at the end."""
    found, above = set(), ""
    for line in tree.splitlines()[1:]:
        depth, words = len(line) - len(line.lstrip()), line.split()
        if depth == 2:
            above = words[0] if words[0].endswith("/") else ""
            found.add(words[0])
        else:
            assert above, f"'{line}' stands below no package"
            found.update(f"{above}{word}" for word in words)
    return found


def present(source):
    """Return what stands in a folder of source, named as a tree names it."""
    found = set()
    for path in source.rglob("*.py"):
        where = path.relative_to(source)
        found.update(f"{folder.as_posix()}/" for folder in where.parents if folder != Path())
        if path.name not in ("__init__.py", "__main__.py"):
            found.add(where.with_suffix("").as_posix())
    return found


def test_every_module_stands_in_the_tree():
    missing = present(SOURCE) - listed(block("tree"))

    assert not missing, f"add to the tree of docs/architecture.md: {', '.join(sorted(missing))}"


def test_every_entry_of_the_tree_is_there():
    gone = listed(block("tree")) - present(SOURCE) - {"weights/"}  # which holds no Python

    assert not gone, f"remove from the tree of docs/architecture.md: {', '.join(sorted(gone))}"


def test_the_layers_are_those_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")

    assert block("layers").splitlines() == [layer.replace("mien.", "") for layer in layers]


def test_every_path_that_the_page_names_exists():
    named = re.findall(r"`((?:src|tests|docs|benchmarks|examples)(?:/[\w./-]+)?|pyproject\.toml)`", PAGE)

    assert len(named) > 10
    for path in named:
        assert (ROOT / path).exists(), f"docs/architecture.md names {path}, which is not there"


@pytest.mark.parametrize("name", ["GalleryProtocol", "COMMANDS"])
def test_every_name_that_the_page_gives_is_in_the_module_beside_it(name):
    module = re.search(rf"`{name}` of `([^`]+)`", PAGE)[1]

    assert re.search(rf"^(class )?{name}\b", (ROOT / module).read_text(encoding="utf-8"), re.MULTILINE)


def test_what_a_tree_lists_is_read_with_its_packages():
    tree = "src/\n  a        one\n  b/       two\n    c d\n    e\n  f        three\n"

    assert listed(tree) == {"a", "b/", "b/c", "b/d", "b/e", "f"}


def test_modules_of_inner_packages_count(tmp_path):
    (tmp_path / "zoo/foreign").mkdir(parents=True)
    (tmp_path / "zoo/foreign/dlib.py").write_text("")

    assert present(tmp_path) == {"zoo/", "zoo/foreign/", "zoo/foreign/dlib"}
