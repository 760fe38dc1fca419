import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mien.gallery.index import (
    CodedIndex,
    FlatIndex,
    Stamp,
    balanced_rotation,
    blot,
    read_stamp,
    replace_folder,
    top,
)
from mien.types import as_unit


def blocks(vectors, first=1, size=100):
    """Vectors as a database would give them: a block at a time, ids from ``first``."""
    for start in range(0, len(vectors), size):
        part = vectors[start : start + size]
        yield np.arange(first + start, first + start + len(part)), part.astype(np.float16)


def exact(vectors, probes, k):
    scores = probes @ vectors.astype(np.float16).astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order + 1, np.take_along_axis(scores, order, axis=1)


def unit(rng, rows, dimension):
    return as_unit(rng.standard_normal((rows, dimension), dtype=np.float32))


STAMP = Stamp("gallery", "net", 24, erasures=0)


@pytest.fixture
def vectors(rng):
    return unit(rng, 2500, 24)


@pytest.fixture
def probes(rng, vectors):
    return as_unit(vectors[::100] + 0.9 * unit(rng, 25, 24))


@pytest.fixture(params=["on disk", "in memory"])
def folder(request, tmp_path):
    return tmp_path / "people.index" if request.param == "on disk" else None


@pytest.fixture
def coded(vectors, folder):
    return CodedIndex.build(lambda: blocks(vectors), replace(STAMP, depth=200), folder)


class TestTop:
    def test_orders_by_score_then_by_id_and_pads(self):
        ids, scores = top(np.array([0.1, 0.5, 0.5], np.float32), np.array([1, 9, 4]), 4)
        assert ids.tolist() == [4, 9, 1, -1]
        assert scores.tolist()[:2] == [0.5, 0.5] and scores[3] == -np.inf

    def test_ties_at_the_cut_go_to_the_lower_id(self):
        ids, _ = top(np.array([0.5, 0.7, 0.5, 0.5], np.float32), np.array([8, 1, 3, 5]), 2)
        assert ids.tolist() == [1, 3]


class TestFlat:
    def test_is_exact(self, vectors, probes):
        index = FlatIndex.build(blocks(vectors), 24)
        ids, scores = index.search(probes, 10)
        expected_ids, expected_scores = exact(vectors, probes, 10)
        assert np.array_equal(ids, expected_ids)
        assert np.allclose(scores, expected_scores, atol=1e-6)

    def test_forgets_what_was_removed(self, vectors, probes):
        index = FlatIndex.build(blocks(vectors), 24)
        best = index.search(probes, 1)[0][:, 0]
        index.remove(best)
        assert len(index) == len(vectors) - len(set(best.tolist()))
        assert not np.isin(index.search(probes, 10)[0], best).any()
        assert index.last_id == len(vectors)

    def test_fewer_than_k_are_padded(self, vectors, probes):
        ids, _ = FlatIndex.build(blocks(vectors[:3]), 24).search(probes[:1], 5)
        assert sorted(ids[0].tolist()) == [-1, -1, 1, 2, 3]


class TestCoded:
    def test_finds_every_mate_with_its_exact_score(self, coded, vectors, probes):
        ids, scores = coded.search(probes, 3)
        expected_ids, expected_scores = exact(vectors, probes, 3)
        assert np.array_equal(ids[:, 0], expected_ids[:, 0])
        assert np.allclose(scores[:, 0], expected_scores[:, 0], atol=1e-6)

    def test_scoring_everything_is_exact_search(self, coded, vectors, probes):
        coded.deepen(len(vectors), None)
        assert np.array_equal(coded.search(probes, 20)[0], exact(vectors, probes, 20)[0])

    def test_one_probe_gets_what_it_gets_among_many(self, coded, probes):
        together = coded.search(probes, 5)
        for row, probe in enumerate(probes):
            ids, scores = coded.search(probe[None], 5)
            assert np.array_equal(ids[0], together[0][row]) and np.array_equal(scores[0], together[1][row])

    def test_templates_added_later_are_found_like_the_others(self, coded, rng, vectors):
        late = unit(rng, 300, 24)
        for ids, rows in blocks(late, first=5001):
            coded.add(ids, rows)
        assert coded.search(late, 1)[0][:, 0].tolist() == list(range(5001, 5301))
        assert (len(coded), coded.last_id, coded.unsaved) == (len(vectors) + 300, 5300, 300)

    def test_forgets_what_was_removed_old_or_late(self, coded, rng, vectors):
        late = unit(rng, 10, 24)
        coded.add(np.arange(5001, 5011), late.astype(np.float16))
        gone = np.array([1, 700, 5003, 99_999])
        coded.remove(gone)
        coded.remove(gone)
        ids, _ = coded.search(np.stack([vectors[0], vectors[699], late[2]]), 50)
        assert not np.isin(ids, gone).any()
        assert len(coded) == len(vectors) + 10 - 3
        assert coded.wasted == pytest.approx(3 / (len(vectors) + 10))

    def test_vectors_of_the_removed_leave_memory(self, vectors):
        coded = CodedIndex.build(lambda: blocks(vectors), STAMP)
        coded.add(np.array([9001]), vectors[:1].astype(np.float16))
        coded.remove(np.array([700, 9001]))
        held = np.concatenate([coded._base, coded._tail.rows])
        assert not held[699].any() and not held[-1].any()

    def test_blocks_return_what_went_in(self, coded, vectors):
        ids, rows = (np.concatenate(parts) for parts in zip(*coded.blocks(), strict=True))
        assert np.array_equal(ids, np.arange(1, len(vectors) + 1))
        assert np.array_equal(rows, vectors.astype(np.float16))

    @pytest.mark.parametrize("dimension", [1, 7, 64, 100, 130])
    def test_any_dimension_will_do(self, rng, dimension):
        vectors = unit(rng, 50, dimension)
        coded = CodedIndex.build(lambda: blocks(vectors), replace(STAMP, dimension=dimension, depth=25))
        scores = coded.search(vectors, 1)[1][:, 0]
        assert np.allclose(scores, 1.0, atol=2e-3)

    def test_so_few_that_each_centroid_is_a_template(self, rng):
        vectors = unit(rng, 3, 24)
        coded = CodedIndex.build(lambda: blocks(vectors), STAMP)
        assert coded.search(vectors, 1)[0][:, 0].tolist() == [1, 2, 3]

    def test_building_twice_gives_the_same_index(self, vectors, tmp_path):
        for name in ("one", "two"):
            CodedIndex.build(lambda: blocks(vectors), STAMP, tmp_path / name)
        for file in ("rotation.npy", "centroids.npy", "codes.u8", "ids.i64", "vectors.f16"):
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


class TestRotation:
    def test_keeps_scores(self, rng, vectors):
        rotation = balanced_rotation(vectors, parts=24)
        assert np.allclose((vectors @ rotation) @ (vectors @ rotation).T, vectors @ vectors.T, atol=1e-5)

    def test_gives_every_part_about_as_much_to_tell(self, rng):
        scale = np.exp(-np.arange(24) / 4).astype(np.float32)
        skewed = rng.standard_normal((4000, 24)).astype(np.float32) * scale

        rotated = skewed @ balanced_rotation(skewed, parts=8)

        def spread(rows):
            return np.ptp(np.log(rows.var(axis=0)).reshape(8, 3).sum(axis=1))

        assert spread(rotated) < 0.2 * spread(skewed)

    def test_pads_to_whole_parts(self, rng):
        rotation = balanced_rotation(unit(rng, 90, 10), parts=8)
        assert rotation.shape == (10, 16)
        assert np.allclose(rotation @ rotation.T, np.eye(10), atol=1e-5)


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path / "people.index"

    def test_a_loaded_index_answers_like_the_built_one(self, coded, folder, probes):
        loaded = CodedIndex.load(folder)
        for one, other in zip(loaded.search(probes, 5), coded.search(probes, 5), strict=True):
            assert np.array_equal(one, other)
        assert loaded.last_id == coded.last_id

    def test_appended_templates_are_there_after_loading(self, coded, folder, rng, vectors):
        late = unit(rng, 40, 24)
        coded.add(np.arange(5001, 5041), late.astype(np.float16))
        coded.append(folder)
        assert coded.unsaved == 0
        coded.append(folder)
        loaded = CodedIndex.load(folder)
        assert len(loaded) == len(vectors) + 40
        assert loaded.search(late, 1)[0][:, 0].tolist() == list(range(5001, 5041))
        assert loaded.unsaved == 0

    def test_what_a_crash_left_behind_the_last_row_does_not_count(self, coded, folder, rng, vectors):
        for name in ("codes.u8", "ids.i64", "vectors.f16"):
            with (folder / name).open("ab") as file:
                file.write(b"half a row")
        late = unit(rng, 2, 24)
        loaded = CodedIndex.load(folder)
        loaded.add(np.array([5001, 5002]), late.astype(np.float16))
        loaded.append(folder)
        assert CodedIndex.load(folder).search(late, 1)[0][:, 0].tolist() == [5001, 5002]

    def test_an_index_trained_elsewhere_is_not_appended_to(self, coded, folder, vectors):
        CodedIndex.build(lambda: blocks(vectors[:1000]), STAMP, folder)
        coded.append(folder)
        assert len(CodedIndex.load(folder)) == 1000

    def test_blotted_templates_are_gone_from_files_and_results(self, coded, folder, vectors):
        gone = np.array([3, 1500])
        with (folder / "vectors.f16").open("ab") as file:
            file.write(vectors[2].astype(np.float16).tobytes())
        blot(folder, gone, erasures=4)
        data = (folder / "vectors.f16").read_bytes()
        assert vectors[2].astype(np.float16).tobytes() not in data
        assert vectors[1499].astype(np.float16).tobytes() not in data
        loaded = CodedIndex.load(folder)
        assert loaded.stamp.erasures == 4 and len(loaded) == len(vectors) - 2
        assert loaded.wasted == 2 / len(vectors)
        assert not np.isin(loaded.search(vectors[[2, 1499]], 20)[0], gone).any()
        assert loaded.search(vectors[[0, 2400]], 1)[0][:, 0].tolist() == [1, 2401]

    def test_rows_after_a_blot_keep_their_vectors(self, coded, folder, rng, vectors):
        blot(folder, np.array([3]), erasures=1)
        loaded = CodedIndex.load(folder)
        late = unit(rng, 1, 24)
        loaded.add(np.array([5001]), late.astype(np.float16))
        loaded.append(folder)
        again = CodedIndex.load(folder)
        assert again.search(np.stack([vectors[7], late[0]]), 1)[0][:, 0].tolist() == [8, 5001]

    def test_depth_is_remembered(self, coded, folder):
        coded.deepen(333, folder)
        assert CodedIndex.load(folder).stamp.depth == 333

    def test_nothing_is_left_over_from_building(self, coded, folder):
        assert [path.name for path in folder.parent.iterdir()] == ["people.index"]

    @pytest.mark.parametrize(
        "name", ["index.json", "rotation.npy", "centroids.npy", "codes.u8", "ids.i64", "vectors.f16"]
    )
    def test_a_folder_with_a_file_cut_short_is_no_index(self, coded, folder, name):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        assert CodedIndex.load(folder) is None

    def test_a_folder_of_another_layout_is_no_index(self, coded, folder):
        stamp = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps(stamp | {"format": 99}))
        assert read_stamp(folder) is None
        assert CodedIndex.load(folder) is None

    def test_no_folder_is_no_index(self, folder):
        assert CodedIndex.load(folder) is None
        blot(folder, np.array([1]), 1)

    def test_replacing_a_folder_leaves_the_new_one_alone(self, tmp_path):
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "which").write_text(name)
        replace_folder(tmp_path / "new", tmp_path / "old")
        assert [path.name for path in tmp_path.iterdir()] == ["old"]
        assert (tmp_path / "old" / "which").read_text() == "new"


def test_importing_the_gallery_loads_neither_faiss_nor_cryptography():
    code = """import sys, mien.gallery.gallery
print([m for m in ('faiss', 'cryptography', 'PIL.Image') if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dimension", [129, 127, 65, 3])
def test_any_dimension_is_searched_as_exactly_as_by_brute_force(rng, dimension):
    """Dimensions that no number of sub-quantisers divides: padded with zeros, re-ranked on the true vectors."""
    vectors = rng.standard_normal((2000, dimension)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    index = CodedIndex.build(lambda: [(np.arange(1, 2001), vectors)], Stamp("g", "m", dimension, 0, depth=256))
    probes = vectors[::100].astype(np.float32)

    ids, scores = index.search(probes, 1)

    exact = probes @ vectors.astype(np.float32).T
    assert np.allclose(scores[:, 0], exact.max(axis=1), atol=1e-5)
    assert (ids[:, 0] == np.arange(1, 2001, 100)).mean() > (0.9 if dimension == 3 else 0.99)
