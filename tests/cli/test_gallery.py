import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from gallery.fake_analyzer import DIMENSION, FakeAnalyzer, card, write_picture
from mien.cli.gallery import calibrate, gallery, operating_threshold
from mien.errors import EvaluationError, GalleryError, ModelError, UsageError
from mien.gallery import Gallery
from mien.gallery import index as indexes
from mien.gallery.simulation import simulate
from mien.types import as_unit
from mien.vision.cohort import Cohort


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.mien"


@pytest.fixture
def run(monkeypatch, path):
    monkeypatch.setattr("mien.zoo.cards", lambda role=None: [card()])

    def call(*arguments, command=gallery, at=path, **options):
        arguments = [str(argument) for argument in (*arguments, "--gallery", at)]
        result = CliRunner().invoke(command, arguments, standalone_mode=False, **options)
        if result.exception:
            raise result.exception
        return result

    return call


def enrol(path, tmp_path, name, person, *, samples=2, **options):
    analyzer = FakeAnalyzer()
    with Gallery(path, **options) as opened:
        for seed in range(samples):
            picture = write_picture(tmp_path / "in" / f"{name}{seed}.png", person, seed=seed + 1)
            (found,) = analyzer.pictures([picture], crops=True, digests=True)
            opened.enrol(name, found.faces[0], source_hash=found.digest)


@pytest.fixture
def people(path, tmp_path):
    for person, name in enumerate(("ada", "bob", "cyd"), start=1):
        enrol(path, tmp_path, name, person)
    return path


def test_list_names_everybody(run, people):
    result = run("list")
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["ada", "bob", "cyd"]
    assert "3 subjects, 6 samples" in result.stderr
    assert [subject["samples"] for subject in json.loads(run("list", "--json").stdout)] == [2, 2, 2]


def test_list_and_show_tell_simulated_templates(run, path, people, tmp_path):
    with Gallery(path) as opened:
        (found,) = FakeAnalyzer().pictures([write_picture(tmp_path / "x.png", 1, seed=9)], crops=True, digests=True)
        face = simulate(found.faces[0], FakeAnalyzer().embed_crops, 2)
        opened.enrol("ada", face, source_hash=found.digest)
    listed = run("list").stdout.splitlines()
    assert listed[0].endswith("ada  (1 simulated)") and listed[1].endswith("bob")
    told = run("show", "ada").stdout.splitlines()
    assert "template with 2 simulated views" in told[-1] and "simulated" not in told[1]
    assert json.loads(run("show", "ada", "--json").stdout)["samples"][-1]["simulated"] == 2


def test_show_lists_samples_and_writes_crops(run, people, tmp_path):
    lines = run("show", "ada", "--crops", tmp_path / "crops").stdout.splitlines()
    assert lines[0].startswith("ada  id 1  2 samples") and len(lines) == 3 and "quality 0.90" in lines[1]
    assert sorted(file.name for file in (tmp_path / "crops").iterdir()) == ["1.png", "2.png"]
    document = json.loads(run("show", "ada", "--json").stdout)
    assert [sample["id"] for sample in document["samples"]] == [1, 2] and document["subject"]["name"] == "ada"


def test_rename_and_merge(run, people):
    run("rename", "ada", "countess")
    assert "2 samples moved" in run("merge", "countess", "bob").stderr
    assert [line.split()[-1] for line in run("list").stdout.splitlines()] == ["countess", "cyd"]


def test_erase_asks_first(run, people):
    result = run("erase", "ada", "bob", input="y\n")
    assert "Erase 2 subjects with 4 samples?" in result.stderr
    assert result.stdout.count("erased subject") == 2 and "none of" in result.stdout
    with Gallery(people) as opened:
        assert [subject.name for subject in opened.subjects()] == ["cyd"]


def test_erase_stops_at_no(run, people):
    import click

    with pytest.raises(click.Abort):
        run("erase", "ada", input="n\n")
    assert "3 subjects" in run("list").stderr


def test_erase_of_an_unknown_subject_erases_nobody(run, people):
    with pytest.raises(GalleryError, match="no subject"):
        run("erase", "ada", "nobody", "--yes")
    assert "3 subjects" in run("list").stderr


def test_erase_as_json(run, people):
    document = json.loads(run("erase", "ada", "--yes", "--json").stdout)
    assert (document["samples"], document["templates"], document["crops"]) == (2, 2, 2)


def test_erase_says_what_stays_with_others(run, people):
    analyzer = FakeAnalyzer()
    (found,) = analyzer.pictures([people.parent / "in" / "ada0.png"], crops=True, digests=True)
    with Gallery(people) as opened:
        opened.enrol("twin", found.faces[0], source_hash=found.digest)
    assert "other subjects have the same picture" in run("erase", "ada", "--yes").stderr


def test_check_of_a_sound_gallery(run, people):
    result = run("check")
    assert result.return_value == 0
    assert result.stdout == "sound: 3 subjects, 6 samples, 6 templates, search is exact\n"
    assert json.loads(run("check", "--json").stdout)["ok"]


def test_check_of_a_large_gallery_tells_its_recall(run, people, monkeypatch):
    monkeypatch.setattr(indexes, "FLAT_LIMIT", 4)
    monkeypatch.setattr(indexes, "DEPTH", 4)
    result = run("check", "--probes", 6)
    assert "recall 1.0000" in result.stdout and "probes at cosine 0.60 to their mate" in result.stdout
    assert "6 stored templates" in result.stdout and "search is coded" in result.stdout


def test_check_of_a_damaged_gallery_fails(run, people):
    with Gallery(people) as opened, opened.rows.write():
        opened.rows.connection.execute("UPDATE crop SET image = x'00' WHERE sample_id = 3")
    result = run("check")
    assert result.return_value == 1
    assert "1 crops differ from their digest (row 3)" in result.stderr and "1 problem:" in result.stdout
    assert run("check", "--json").return_value == 1


def test_stats_tell_counts_and_thresholds(run, people):
    run("--fmr", 0.5, command=calibrate)
    text = run("stats").stdout
    for part in ("subjects         3", "6 (3 with 2)", "64-d", "encrypted        no", "at FMR 0.5"):
        assert part in text
    assert json.loads(run("stats", "--json").stdout)["templates"] == 6


def test_stats_of_an_empty_gallery(run, path):
    Gallery(path).close()
    assert "none yet" in run("stats").stdout


def test_rebuild(run, people):
    assert "6 templates" in run("rebuild").stderr


def test_audit_finds_people_under_wrong_names(run, people, tmp_path):
    assert "0 findings at threshold 0.600" in run("audit").stderr
    enrol(people, tmp_path, "alias", 1)
    enrol(people, tmp_path, "bob", 7, samples=3)
    result = run("audit", "--fmr", 1e-3)
    assert "ada and alias may be one person" in result.stdout
    assert "bob may be two persons" in result.stdout and "2 findings" in result.stderr
    findings = json.loads(run("audit", "--threshold", 0.6, "--json").stdout)
    assert [finding["names"] for finding in findings] == [["ada", "alias"], ["bob"]]


def test_audit_by_an_unknown_embedder_needs_a_threshold(run, people, monkeypatch):
    monkeypatch.setattr("mien.zoo.cards", lambda role=None: [])
    with pytest.raises(GalleryError, match="--threshold"):
        run("audit")
    assert "at threshold 0.700" in run("audit", "--threshold", 0.7).stderr


def test_export_and_import(run, people, tmp_path):
    assert "3 subjects, 6 samples written" in run("export", tmp_path / "out").stderr
    other = tmp_path / "other.mien"
    assert "3 new subjects, 6 samples added." in run("import", tmp_path / "out", at=other).stderr
    assert "0 samples added, 6 there already" in run("import", tmp_path / "out", at=other).stderr


def test_an_encrypted_gallery_needs_its_key_and_exports_with_a_warning(run, path, tmp_path):
    key = tmp_path / "key"
    CliRunner().invoke(gallery, ["key", str(key)], standalone_mode=False)
    enrol(path, tmp_path, "ada", 1, key_file=key)
    with pytest.raises(GalleryError, match=r"--key FILE"):
        run("list")
    assert "ada" in run("list", "--key", key).stdout
    assert "its export is not" in run("export", tmp_path / "out", "--key", key).stderr
    assert "encrypted        yes" in run("stats", "--key", key).stdout


@pytest.mark.parametrize("template", ["arcface-112", "dlib-150"])
def test_migrate_embeds_the_crops_again(run, people, monkeypatch, template):
    new = FakeAnalyzer(card("newer"))
    monkeypatch.setattr("mien.cli.gallery.make_analyzer", lambda *_: new)
    seen = []
    embed = new.embed_crops
    new.embed_crops = lambda crops: seen.append(crops.shape) or embed(crops)
    monkeypatch.setattr("mien.zoo.cards", lambda role=None: [card(template=template)])
    # A card with another convention has another id: say that the gallery is of it.
    with Gallery(people) as opened, opened.rows.write():
        opened.rows.connection.execute("UPDATE model SET name = ?", (card(template=template).id,))

    result = run("migrate", "--embedder", "newer")

    assert "6 samples embedded" in result.stderr and seen == [(6, 112, 112, 3)]
    with Gallery(people, model=new.card.id) as opened:
        # The person is in the middle of the crop, the noise at its edge, which the warp moves.
        assert (opened.vectors("ada") @ new.vector(2, [2, 1]) > 0.6).all()
        assert (opened.vectors("bob") @ new.vector(2, [2, 1]) < 0.4).all()


class TestGalleryOfBeforeTheCohort:
    """Its templates are those of the network alone; the card has had a cohort since."""

    @pytest.fixture
    def now(self, monkeypatch, people):
        plain = card()
        facts = {"cohort": "made-up", "cohort_sha256": "0" * 64, "neighbours": 5, "floor": 0.4}
        changed = replace(plain, convention={**plain.convention, **facts})
        assert changed.plain_id == plain.id != changed.id
        analyzer = FakeAnalyzer(changed)
        centres = np.random.default_rng(0).standard_normal((30, DIMENSION))
        analyzer.cohort = Cohort(as_unit(centres), neighbours=5, floor=0.4)
        monkeypatch.setattr("mien.zoo.cards", lambda role=None: [changed])
        monkeypatch.setattr("mien.cli.gallery.make_analyzer", lambda *_: analyzer)
        return analyzer

    def test_it_opens_with_a_line_that_says_what_to_do(self, now, people):
        with pytest.raises(GalleryError, match=r"has changed since.* mien gallery migrate --embedder fake$"):
            Gallery(people, model=now.card.id)

    def test_what_needs_no_threshold_works_as_it_is(self, run, now, tmp_path):
        assert "3 subjects" in run("list").stderr and run("check").return_value == 0
        assert card().id in run("stats").stdout and "written" in run("export", tmp_path / "out").stderr

    def test_thresholds_of_the_card_are_not_applied_to_its_scores(self, run, now, people):
        with pytest.raises(GalleryError, match=r"from before fake had a cohort.*mien gallery migrate"):
            run("audit")
        assert "at threshold 0.600" in run("audit", "--threshold", 0.6).stderr
        run("--fmr", 0.5, command=calibrate)
        assert "at threshold" in run("audit", "--fmr", 0.5).stderr
        with Gallery(people) as opened:
            assert operating_threshold(opened) == 0.45

    def test_it_is_brought_along_without_crops_and_its_thresholds_do_not_come(self, run, now, people):
        run("--fmr", 0.5, command=calibrate)
        with Gallery(people) as opened:
            before = opened.vectors("ada")
        result = run("migrate")
        assert "6 templates brought along from the vectors alone" in result.stderr
        assert "The threshold calibrated before no longer counts. Run: mien calibrate" in result.stderr
        with Gallery(people, model=now.card.id) as opened:
            assert opened.vectors("ada") == pytest.approx(now.cohort.normalise(as_unit(before)), abs=1e-3)
            assert opened.points() == []
        assert "no longer" not in run("migrate").stderr

    def test_its_export_is_imported_and_brought_along(self, run, now, tmp_path):
        run("export", tmp_path / "out")
        other = tmp_path / "other.mien"
        assert "6 samples added" in run("import", tmp_path / "out", at=other).stderr
        assert "6 templates brought along" in run("migrate", at=other).stderr


def test_calibrate_keeps_a_threshold_and_says_what_it_is_worth(run, people):
    result = run("--fmr", 0.5, "--fmr", 0.25, command=calibrate)
    lines = result.stdout.splitlines()
    assert "at FMR 0.5" in lines[0] and "FNMR" in lines[0] and "at FMR 0.25" in lines[2]
    assert "12 comparisons of 3 subjects support no rate below 0.2" in lines[1]
    points = json.loads(run("--fmr", 0.25, "--json", command=calibrate).stdout)
    assert points[0]["point"]["target_fmr"] == 0.25 and points[0]["point"]["num_impostor"] == 12


class TestCohort:
    """`mien calibrate --cohort`: other people to normalise by."""

    @pytest.fixture(autouse=True)
    def fake(self, monkeypatch):
        monkeypatch.setattr("mien.cli.gallery.make_analyzer", lambda *_: FakeAnalyzer())

    @pytest.fixture
    def strangers(self, tmp_path):
        for person in range(120, 230):
            write_picture(tmp_path / "strangers" / f"{person}.png", person)
        return tmp_path / "strangers"

    def test_a_folder_of_people_becomes_the_cohort_and_the_threshold_is_measured_anew(self, run, people, strangers):
        result = run("--cohort", strangers, "--fmr", 0.5, command=calibrate)

        assert "normalised by 110 people of its own now" in result.stderr and "at FMR 0.5" in result.stdout
        assert "cohort           its own, " in run("stats").stdout
        assert "at threshold" in run("audit", "--fmr", 0.5).stderr
        with pytest.raises(ModelError, match=r"mien calibrate"):
            run("audit", "--fmr", 0.1)

    def test_shipped_goes_back(self, run, people, strangers):
        run("--cohort", strangers, "--fmr", 0.5, command=calibrate)

        result = run("--cohort", "shipped", command=calibrate)
        assert "are now those of fake-1-" in result.stderr and not result.stdout
        assert "cohort           the embedder's" in run("stats").stdout
        again = run("--cohort", "shipped", "--fmr", 0.5, command=calibrate)
        assert "are already those of fake-1-" in again.stderr and "at FMR 0.5" in again.stdout

    def test_the_gallerys_own_people_are_too_few_here(self, run, people):
        with pytest.raises(UsageError, match="at least 100 different people, got 3"):
            run("--cohort", "gallery", command=calibrate)


def test_calibrate_refuses_a_rate_the_gallery_cannot_show(run, people):
    with pytest.raises(EvaluationError, match="needs at least 1000 impostor scores, got 12"):
        run(command=calibrate)


def test_nothing_but_import_and_enrolment_makes_a_gallery(run, path):
    for arguments in (("list",), ("stats",), ("check",), ("rebuild",), ("erase", "x", "--yes"), ("migrate",)):
        with pytest.raises(GalleryError, match="no gallery"):
            run(*arguments)
    assert not path.exists()


def test_a_copy_is_compared_and_said_in_numbers(run, people, tmp_path, monkeypatch):
    def copy(*options):
        words = ["copy", str(people), str(tmp_path / "copy.mien"), *options]
        return CliRunner().invoke(gallery, words, standalone_mode=False)

    assert copy().stdout.startswith("3 subjects, 6 samples: 6 copied; digest ")
    told = json.loads(copy("--json").stdout)
    assert (told["schema"], told["added"], told["already"], told["same_ids"]) == ("mien/gallery-copy/1", 0, 6, True)
    with Gallery(tmp_path / "copy.mien") as changed, changed.rows.write():
        changed.rows.connection.execute("UPDATE sample SET quality = 0 WHERE id = 1")
    result = copy()
    assert result.return_value == 1 and "1 sample of" in result.stderr and "or the copy is damaged" in result.stderr


def test_a_database_that_does_not_answer_is_one_line(run):
    with pytest.raises(GalleryError, match=r"postgresql://me@/db does not answer: .*See that it runs") as caught:
        run("list", at="postgresql://me:s3cret@/db?host=/nowhere")
    assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)
