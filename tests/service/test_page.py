"""The files of the page, read without a browser."""

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

STATIC = Path(str(files("mien.service") / "static"))
MANIFEST = json.loads((STATIC / "vendor/manifest.json").read_text())
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
SENTENCE = re.compile(r"[`'\"]([a-z_]+(?:\.[a-z_]+)*)[`'\"]")


def words(language):
    text = (STATIC / f"lang/{language}.js").read_text(encoding="utf-8")
    assert text.startswith("export default {") and text.endswith("};\n"), "JSON in a module, and nothing else"
    return json.loads(text.removeprefix("export default ").removesuffix(";\n"))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("entry", MANIFEST["files"], ids=lambda entry: entry["file"])
def test_a_vendored_file_is_the_published_one_but_for_the_changes_that_are_written_down(entry):
    text = (STATIC / "vendor" / entry["file"]).read_text()
    assert sha256(text.encode()) == entry["sha256"]
    for published, vendored in entry["changes"][::-1]:
        at = text.rindex(vendored)
        text = text[:at] + published + text[at + len(vendored) :]
    assert sha256(text.encode()) == entry["published_sha256"]


def test_every_vendored_file_is_in_the_manifest_and_has_its_licence_beside_it():
    listed = {entry["file"] for entry in MANIFEST["files"] + MANIFEST["licences"]} | {"manifest.json"}
    assert {path.name for path in (STATIC / "vendor").iterdir()} == listed
    for entry in MANIFEST["licences"]:
        assert sha256((STATIC / "vendor" / entry["file"]).read_bytes()) == entry["sha256"]
    assert {entry["licence_file"] for entry in MANIFEST["files"]} == {e["file"] for e in MANIFEST["licences"]}


def test_both_languages_have_the_same_sentences_with_the_same_gaps():
    english, chinese = words("en"), words("zh")
    assert {key for key in english if not key.endswith(".one")} == set(chinese)
    for key, sentence in chinese.items():
        gaps = set(re.findall(r"\{(\w+)\}", sentence))
        assert gaps == set(re.findall(r"\{(\w+)\}", english[key])), key


def test_a_sentence_for_one_has_a_sentence_for_many():
    english = words("en")
    for key in english:
        if key.endswith(".one"):
            assert "{n}" in english[key.removesuffix(".one")], key


def test_every_sentence_that_is_asked_for_is_there_and_every_one_that_is_there_is_asked_for():
    english = words("en")
    source = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    asked = set(re.findall(r"\bt\('([\w.]+)'", source))
    assert asked <= set(english), asked - set(english)
    made = re.findall(r"\b(?:t|known)\(`([\w.]+)\$\{", source)
    literals = set(SENTENCE.findall(source))
    unused = {
        key
        for key in english
        if key.removesuffix(".one") not in literals and not any(key.startswith(prefix) for prefix in made)
    }
    assert not unused


def test_nothing_of_the_page_is_inline_or_comes_from_elsewhere():
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    for path in [STATIC / "index.html", STATIC / "app.css", *SCRIPTS]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|\beval\(|innerHTML|new Function", text), path.name


def test_what_the_page_names_is_there():
    page = (STATIC / "index.html").read_text()
    named = {STATIC / name for name in re.findall(r'(?:href|src)="static/([^"]+)"', page)}
    for path in SCRIPTS:
        imported = re.findall(r"(?:from|import\()\s*'(\.[^']+)'", path.read_text(encoding="utf-8"))
        named |= {(path.parent / name).resolve() for name in imported}
    named |= {STATIC / f"examples/{name}.webp" for name in ("one", "two", "three", "crowd")}
    missing = [path for path in named if not path.is_file()]
    assert not missing


def test_the_page_weighs_less_than_300_kb():
    assert sum(path.stat().st_size for path in STATIC.rglob("*") if path.is_file()) < 300_000
