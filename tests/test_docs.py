"""The documentation does what it says: blocks run, links lead somewhere, commands and options exist, tables agree.

In a page, blocks of `python` and `console` run one after the other in one folder. `<!-- needs models -->` above a block
makes it an integration test; `<!-- not run: why -->` leaves it out. What Python prints stands in `# prints:` lines. In
expected output `...` stands for anything, fractions may differ by a hundredth, and numbers after `~` by a third.
"""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import torch

from mien import zoo
from mien.cli.root import cli
from mien.drawing import draw_face, draw_scene
from mien.images import save_image

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
RUN = [
    ROOT / name
    for name in (
        "README.md",
        "docs/guide.md",
        "docs/python.md",
        "docs/evaluation.md",
        "docs/training.md",
        "docs/generation.md",
        "docs/restoration.md",
        "docs/privacy.md",
        "docs/tutorials-corrected.md",
        "docs/video.md",
    )
]
CAST = {"amber": 18, "basil": 78, "cedar": 28, "dune": 64, "elm": 53}
"""Drawn subjects whom the default embedder tells apart."""

FENCE = re.compile(r"(?:<!-- (needs models|not run: [^>]+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"~\d+(?:\.\d+)?|\d+\.\d+")  # that need not be met exactly


@dataclass(frozen=True)
class Block:
    kind: str
    text: str
    line: int
    mark: str

    @property
    def runs_offline(self) -> bool:
        return self.kind in ("python", "console") and not self.mark

    @property
    def runs_with_models(self) -> bool:
        return self.runs_offline or self.mark == "needs models"


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[2], match[3], text.count("\n", 0, match.start()) + 1, match[1] or "")
        for match in FENCE.finditer(text)
    ]


def name(page):
    return str(page.relative_to(ROOT))


def agrees(expected, got):
    """Compare a line of output with what the page says."""
    pattern = re.escape(expected).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\\ ", r"\\s+", pattern)
    pattern = re.sub(r"(?:\\s\+)+", r"\\s+", pattern)
    pattern = re.sub(r"\\~\d+(?:\\\.\d+)?|\d+\\\.\d+", r"(\\d+(?:\\.\\d+)?)", pattern)
    match = re.fullmatch(pattern, got.rstrip())
    numbers = NUMBER.findall(expected.replace("...", " "))
    return match is not None and all(near(said, seen) for said, seen in zip(numbers, match.groups(), strict=True))


def near(said, seen):
    number, share, least = float(said.lstrip("~")), *((1 / 3, 0.1) if said.startswith("~") else (0.01, 0.01))
    return abs(float(seen) - number) <= least + share * number


def assert_output(expected, got, where):
    said, seen = [line for line in expected.splitlines() if line.strip()], [x for x in got.splitlines() if x.strip()]
    rest = list(seen)
    for i, line in enumerate(said):
        if line.strip() == "...":
            following = said[i + 1] if i + 1 < len(said) else None
            while rest and not (following and agrees(following, rest[0])):
                rest.pop(0)
        else:
            assert rest and agrees(line, rest.pop(0)), f"{where} says\n{expected}\nbut the output is\n{got}"
    assert not rest, f"{where}: the page does not mention\n{chr(10).join(rest)}"


MODELS_TOO = [page for page in RUN if any(block.mark == "needs models" for block in blocks(page))]


def run_console(block, where, environment):
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    assert parts, f"{where} is a console block without a command"
    for part in parts:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command = command[:-1] + more
        done = subprocess.run(
            command,
            shell=True,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout, f"{where}: {command}\n{done.stdout}"
        assert_output(expected, done.stdout, f"{where}, {command}")


def run_python(block, where, namespace):
    code = compile("\n" * block.line + block.text, str(where), "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    said = re.findall(r"^# prints: (.*)", block.text, flags=re.MULTILINE)
    if said or not str(where).startswith("README"):  # whose ten lines have no room for it
        assert_output("\n".join(said), printed.getvalue(), where)


def run_page(page, wanted, folder, forks, monkeypatch):
    monkeypatch.chdir(folder)
    path = os.pathsep.join([str(forks), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "MIEN_OFFLINE": "1", "COLUMNS": "120"}
    namespace = {"__name__": "page"}
    for block in blocks(page):
        where = f"{name(page)}:{block.line}"
        if not wanted(block):
            continue
        if block.kind == "python":
            run_python(block, where, namespace)
        elif block.kind == "console":
            run_console(block, where, environment)
        else:
            done = subprocess.run(["bash", "-e", "-c", block.text], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"


def draw_pictures(folder):
    """Draw the files that the READMEs and the Python page speak of."""
    for subject, number in CAST.items():
        (folder / "people" / subject).mkdir(parents=True)
        for i in range(3):
            save_image(
                folder / "people" / subject / f"{i}.jpg", draw_face(number, side=320, seed=i, yaw=8 * i - 8).image
            )
    (folder / "photos").mkdir()
    for i, group in enumerate([list(CAST.values()), [18, 78], [28, 64, 53], [78, 28]]):
        save_image(folder / "photos" / f"{i}.jpg", draw_scene(group, width=960, height=540, seed=i).image)
    (folder / "a.jpg").write_bytes((folder / "people/amber/0.jpg").read_bytes())
    (folder / "b.jpg").write_bytes((folder / "people/amber/2.jpg").read_bytes())
    (folder / "group.jpg").write_bytes((folder / "photos/0.jpg").read_bytes())


@pytest.mark.parametrize("page", RUN, ids=name)
def test_blocks_that_need_no_model_run(page, tmp_path, forks, monkeypatch, request):
    if f"test_blocks_run[{name(page)}]" in {item.name for item in request.session.items} and can_run_models(request):
        pytest.skip("these blocks are run with the others, below")
    threads = torch.get_num_threads()
    try:
        run_page(page, lambda block: block.runs_offline, tmp_path, forks, monkeypatch)
    finally:
        torch.set_num_threads(threads)  # which a page may set


def can_run_models(request):
    """Whether the test below will run: its pages hold the blocks that need no model as well."""
    try:
        request.getfixturevalue("models")
    except pytest.skip.Exception:
        return False
    return True


@pytest.mark.integration
@pytest.mark.parametrize("page", MODELS_TOO, ids=name)
def test_blocks_run(models, page, tmp_path, forks, monkeypatch):
    if page.name not in ("guide.md", "training.md", "generation.md"):  # they draw their own
        draw_pictures(tmp_path)
    run_page(page, lambda block: block.runs_with_models, tmp_path, forks, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name(page)} links to {target}, which is not there"
        if heading:
            assert heading in headings(linked), f"{name(page)} links to {target}, but there is no such heading"


def headings(page):
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


def commands(page):
    """Yield each line of the page's blocks, fenced or indented, and tables that calls mien, and its words."""
    fenced = [block.text for block in blocks(page) if block.kind in ("console", "sh")]
    in_tables = re.findall(r"^\| [^|`]+ \| `(mien [^`]+)` \|$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    indented = re.findall(r"^    mien .*(?:\\\n.*)*", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in "\n".join([*fenced, *in_tables, *indented]).replace("\\\n", " ").splitlines():
        call = re.match(r"\s*(?:\$ )?(mien [^|>&;<]*)", line.split("  #")[0])
        if call:
            yield line, shlex.split(call[1])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page):
    for line, words in commands(page):
        command, context = cli, click.Context(cli)
        rest = words[1:]
        while rest:
            if rest[0].startswith("-"):
                option = rest[0].split("=")[0]
                known = {text for p in command.params for text in (*p.opts, *p.secondary_opts)}
                # -h and --help are added when a command is asked for its parameters.
                assert option in known | {"-h", "--help", "-"}, f"{name(page)}: {option} in '{line}'"
            elif isinstance(command, click.Group) and rest[0].replace("-", "").isalpha() and rest[0].islower():
                found = command.get_command(context, rest[0])
                assert found is not None, f"{name(page)}: mien has no command '{rest[0]}' in '{line}'"
                command = found
            rest = rest[1:]


@pytest.mark.parametrize(
    "page",
    [
        "README",
        "docs/measured",
        "docs/training",
        "docs/generation",
        "docs/tutorials-corrected",
        "docs/video",
        "docs/augmentation",
        "docs/few_shot",
        "docs/operating",
        "docs/page",
        "docs/threat_model",
    ],
)
def test_both_languages_have_the_same_sections_code_and_links(page):
    english, chinese = (
        (ROOT / f"{page}{language}.md").read_text(encoding="utf-8").replace(".zh-CN.", ".")
        for language in ("", ".zh-CN")
    )

    def shape(text):
        return [line.split(" ")[0] for line in text.splitlines() if re.match(r"#+ |- \*\*|```|\| ", line)]

    def links(text):
        return sorted(re.findall(r"\]\((docs/[^)]*|examples|CHANGELOG.md|CONTRIBUTING.md|bench[^)]*)\)", text))

    def code(text):
        return [re.sub(r"#.*", "", block).strip() for block in re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)]

    assert shape(english) == shape(chinese)
    assert links(english) == links(chinese)
    assert [re.sub(r" +\n", "\n", c) for c in code(english)] == [re.sub(r" +\n", "\n", c) for c in code(chinese)]


def test_the_tables_say_what_the_results_say():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/readme_table.py", "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.fixture
def readme_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("readme_table")


@pytest.mark.parametrize("page", ["table", "sections"])
def test_a_changed_result_shows_in_the_table(readme_table, page, tmp_path):
    result = json.loads((ROOT / "benchmarks/results/lfw.json").read_text())
    (tmp_path / "lfw.json").write_text(json.dumps(result | {"accuracy": 0.1234}))

    rows = getattr(readme_table, page)("en", tmp_path)

    assert "12.34 %" in rows
    assert "kill -9" not in rows, "a result that is not there leaves its rows out"


def test_rows_are_of_the_default_embedder_where_several_were_measured(readme_table, tmp_path):
    result = json.loads((ROOT / "benchmarks/results/lfw.json").read_text())
    mine, other = readme_table.DEFAULT_EMBEDDER, "another"
    for name, accuracy in ((other, 0.5), (mine, 0.75)):
        changed = result | {"accuracy": accuracy, "embedder": f"{name}-1-01234567"}
        (tmp_path / f"lfw_{name}.json").write_text(json.dumps(changed))

    short, full = readme_table.table("en", tmp_path), readme_table.sections("en", tmp_path)

    assert "75.00 %" in short and "50.00 %" not in short
    assert 0 < full.index(f"`{mine}` on LFW") < full.index(f"`{other}` on LFW")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rates_by_group_appear_once_they_were_measured(readme_table, language, tmp_path):
    assert "UTKFace" not in readme_table.sections(language, tmp_path)
    rates = {
        "worst_adult": {"group": "women of 60", "fmr": 0.0123, "interval": [0.01, 0.015]},
        "children": {"group": "boys of 5", "fmr": 0.0456, "interval": [0.04, 0.05]},
    }
    figures = {"utkface": rates, "target_fmr": 0.001}
    (tmp_path / "fairness.json").write_text(json.dumps({"embedders": {readme_table.DEFAULT_EMBEDDER: figures}}))

    short, full = readme_table.table(language, tmp_path), readme_table.sections(language, tmp_path)

    assert "women of 60: 1.23 %" in short and "boys of 5: 4.56 %" in short
    assert "women of 60: 1.23 % [1.00, 1.50]" in full and "1e-3" in full


def restored(*holding, hurting=()):
    """What a study of restoration says, by two recognisers, of a clean condition and two spoilt ones."""
    conditions = ("clean", "noise 40", "30 % covered")
    settings = [f"{condition}, {name}" for condition in conditions for name in ("sface", "another")]

    def verdict(arm, setting):
        condition, _ = setting.rsplit(", ", 1)
        interval = [-0.08, -0.02] if condition in hurting else [0.01, 0.08]
        return {"arm": arm, "setting": setting, "holds": condition in holding, "difference": 0.03, "interval": interval}

    return {
        "study": {"settings": settings},
        "settings": {"fmr": 0.01},
        "test_items": 200,
        "verdicts": [verdict(arm, setting) for arm in ("network-gated", "unsharp") for setting in settings],
        "rows": [
            {"arm": arm, "setting": setting, "value": value, "gain": value - 0.8, "gain_interval": [0, 0.1]}
            for setting in settings
            for arm, value in (("as-is", 0.8), ("unsharp", 0.7), ("network-gated", 0.9 - 0.05 * ("another" in setting)))
        ],
    }


def test_what_restoring_is_worth_follows_from_the_planned_verdicts(readme_table, tmp_path):
    def told(language, figures):
        (tmp_path / "restoration.json").write_text(json.dumps(figures))
        return readme_table.verdict_table(language, tmp_path)

    mixed = restored("noise 40", "clean", hurting=("30 % covered",))
    assert "[yes](docs/restoration.md) for noise 40; otherwise not shown: off; it harms: 30 % covered" in told(
        "en", mixed
    )
    assert "[对噪声 40 有用](docs/restoration.zh-CN.md)；其他未见作用，默认关闭；有害：遮住 30 %" in told("zh", mixed)
    assert "`network-gated`: noise 40 +3.0 [+1.0, +8.0]; 30 % covered +3.0 [-8.0, -2.0] |" in told("en", mixed)
    assert "| [yes](docs/restoration.md) |" in told("en", restored("noise 40", "30 % covered"))
    assert "[not shown](docs/restoration.md): off |" in told("en", restored("clean"))
    full = readme_table.sections("en", tmp_path)
    assert "noise 40 (n = 200)" in full and "network-gated: 90.0 %; +10.0 [+0.0, +10.0]" in full
    assert "unsharp: -10.0 [+0.0, +10.0]" in full and "85.0 %" not in full, "of the recogniser that was named first"


@pytest.mark.parametrize(("readme", "after"), [("README.md", "## Documentation"), ("README.zh-CN.md", "## 文档")])
def test_a_readme_is_short_and_shows_the_few_rows_that_matter(readme, after):
    before = (ROOT / readme).read_text(encoding="utf-8").split(after)[0]
    measured = before.split("<!-- measured: begin -->")[1].split("<!-- measured: end -->")[0]

    assert len(before) <= 7000
    assert 8 <= len(re.findall(r"^\|", measured, re.MULTILINE)) - 2 <= 9


def test_the_thresholds_named_in_the_readmes_are_the_cards():
    card = zoo.card(zoo.default("embedder"))
    point = next(p for p in card.operating_points if p.target_fmr == 1e-3)

    for readme in ("README.md", "README.zh-CN.md"):
        assert f"{point.threshold:.3f}" in (ROOT / readme).read_text(encoding="utf-8")


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")

    for page in ROOT.glob("docs/*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, f"docs/README.md does not mention {page.name}"


def test_the_contents_of_the_decisions_list_every_decision_with_its_summary():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/contents.py", "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_every_decision_stands_below_a_heading():
    page = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    orphans = [lead for lead in re.findall(r"^\*\*.*?\*\*", page, re.MULTILINE) if f"\n\n{lead}\n\n" not in page]

    assert not orphans, "give these a heading (### ...) and a line of their own"


def test_a_decision_without_a_summary_is_named(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import contents

    with pytest.raises(ValueError, match="'### Threads' needs a summary"):
        contents.contents("## Speed\n\n### Threads\n\nThey follow the quota.\n")


def test_the_picture_of_the_readme_is_small_enough_to_clone():
    assert (ROOT / "docs/images/hero.png").stat().st_size < 400_000


@pytest.mark.parametrize(
    ("said", "seen", "right"),
    [
        ("score 0.934", "score 0.930", True),
        ("score 0.934", "score 0.800", False),
        ("a ... c", "a b  c", True),
        ("3 faces", "4 faces", False),
        ("~3 faces", "4 faces", True),
        ("~3.0 of ~30", "3.9 of 21", True),
        ("~3 faces", "5 faces", False),
    ],
)
def test_output_is_compared_as_roughly_as_it_is_said(said, seen, right):
    assert agrees(said, seen) is right
