import json
import os
import signal
import socket
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from mien import zoo
from mien.data.transforms import Variation
from mien.drawing import draw_face
from mien.errors import DataError, MienError, TrainingError, UsageError
from mien.images import save_image
from mien.networks import ExpressionNetConfig
from mien.training import expression as story
from mien.training.export import save_weights
from mien.training.expression import (
    ExpressionConfig,
    dry_run,
    learned_faces,
    load_expression_net,
    predict,
    train,
)
from mien.training.guard import Guard
from mien.training.run import read_log
from mien.training.stopping import Interrupted
from mien.types import EXPRESSIONS
from mien.vision.expression import ExpressionReader

NET = ExpressionNetConfig(side=24, stem=4, widths=(8, 16), blocks=(1, 1), drop=0.1)
PLAIN = ExpressionNetConfig(arch="tutorial-cnn", side=24, drop=0.0)
CALM = Variation(rotate=4, scale=0.05, shift=0.03, contrast=0.1, brightness=5, noise=2, blur=0, jpeg=0, erase=0)
CLASSES = ("neutral", "happiness", "surprise", "anger")
STEP = 16  # images


class Blind:
    """Finds no face: every drawn picture is taken as a whole."""

    def detect(self, image):
        return []


@pytest.fixture(autouse=True)
def small_and_blind(monkeypatch):
    monkeypatch.setattr("mien.data.crops.patient_detector", Blind)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are the same to the last bit only with as many threads
    yield
    torch.set_num_threads(threads)


def face(subject, expression, *, seed=0):
    """The inner part of a drawn face, 48 px."""
    image = draw_face(subject, side=96, expression=expression, seed=seed).image
    return cv2.resize(image[14:82, 14:82], (48, 48), interpolation=cv2.INTER_AREA)


def draw(folder, subjects, classes=CLASSES):
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for subject in subjects:
            save_image(folder / name / f"{subject}.png", face(subject, name))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    draw(folder / "train", range(12))
    draw(folder / "valid", range(12, 16))
    return folder


@pytest.fixture
def config(data, tmp_path):
    return ExpressionConfig(
        data=data, out=tmp_path / "run", cache=data.parent / "crops", images=20 * STEP, batch_size=STEP,
        report_every=10 * STEP, net=NET, frame=32, canvas=48, learning_rate=0.05, ema_half_life=80, device="cpu",
    )  # fmt: skip


def figures(out):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(out)]


def same(left, right):
    mine, other = load_file(left), load_file(right)
    return mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


# Learning ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run that was given time to learn."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.data.crops.patient_detector", Blind)
        config = ExpressionConfig(
            data=data, out=tmp_path_factory.mktemp("finished") / "run", cache=data.parent / "crops", images=240 * STEP,
            batch_size=STEP, report_every=80 * STEP, net=PLAIN, frame=32, canvas=48, optimizer="adamw",
            learning_rate=5e-3, ema_half_life=200, augment=CALM, device="cpu",
        )  # fmt: skip
        trained = train(config)
    return trained, config


@pytest.mark.slow
def test_drawn_expressions_are_learned(finished):
    trained, config = finished
    assert trained.summary["expression"]["accuracy"] >= 0.5  # 0.25 is chance
    log = read_log(config.out)
    assert [row["images"] for row in log] == [80 * STEP, 160 * STEP, 240 * STEP]
    assert log[-1]["train_loss"] < 0.7 * log[0]["train_loss"]
    assert json.loads((config.out / "summary.json").read_text()).keys() == trained.summary.keys()
    assert (config.out / "card.html").is_file()


@pytest.mark.slow
def test_run_time_answers_as_the_trained_network_does(finished):
    trained, config = finished
    card = zoo.named(config.out)
    reader = ExpressionReader(card)
    faces = np.stack([cv2.resize(face(20 + k, name), (24, 24)) for k, name in enumerate(CLASSES)])
    grey = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in faces])

    logits = predict(trained.model, grey)["expression"] / card.convention["temperature"]["expression"]
    expected = torch.from_numpy(logits).softmax(1).numpy()

    assert reader.labels == trained.heads["expression"] == CLASSES
    assert reader.uncertain_below == trained.summary["expression"]["uncertain_below"]
    np.testing.assert_allclose(reader.probabilities(faces), expected, atol=1e-4)


@pytest.mark.slow
def test_the_network_of_a_run_can_be_built_again(finished):
    trained, config = finished
    model, heads = load_expression_net(config.out)
    assert heads == dict(trained.heads) and not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.model.parameters(), strict=True))


@pytest.mark.slow
def test_a_finished_run_is_not_trained_further(finished):
    trained, config = finished
    again = train(config)
    assert again.summary == trained.summary and len(read_log(config.out)) == 3


@pytest.mark.slow
def test_a_teacher_and_a_start_from_another_run_help(finished, config):
    _, older = finished
    config = replace(config, images=4 * STEP, net=PLAIN)
    cold = train(config)
    warm = train(replace(config, out=config.out.with_name("warm"), init=older.out, learning_rate=1e-4))
    taught = train(replace(config, out=config.out.with_name("taught"), teachers=(older.out, older.out)))
    accuracy = [run.summary["expression"]["accuracy"] for run in (cold, warm)]
    assert accuracy[1] > accuracy[0]
    assert not all(torch.equal(a, b) for a, b in zip(cold.model.parameters(), taught.model.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "room", "off"), [("fp16", 0.6, 0.05), ("int8", 0.45, 0.5)])
def test_exported_weights_see_what_the_run_sees_and_a_training_starts_from_them(
    finished, config, tmp_path, precision, room, off
):
    trained, older = finished
    file = tmp_path / "weights.safetensors"

    size = save_weights(older.out, file, precision=precision)
    model, heads = load_expression_net(file)

    faces = learned_faces(older).valid
    ours, theirs = (predict(net, faces)["expression"] for net in (model, trained.model))
    assert size == file.stat().st_size < room * (older.out / "best.safetensors").stat().st_size
    assert heads == trained.heads
    assert 0 < np.abs(ours - theirs).max() < off
    warm = train(replace(config, images=STEP, net=PLAIN, init=file, learning_rate=1e-6, smoothing=0.0))
    assert warm.summary["expression"]["accuracy"] == pytest.approx(trained.summary["expression"]["accuracy"], abs=0.1)


@pytest.mark.parametrize("content", [b"", b"no header", None], ids=["empty", "damaged", "of something else"])
def test_files_that_are_no_weights_are_refused(content, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save({"x": torch.zeros(1)}) if content is None else content)

    with pytest.raises(TrainingError, match="is no expression network"):
        load_expression_net(file)


def test_every_target_gets_a_head_and_unlabelled_pictures_teach_the_other(config, tmp_path):
    votes = [f"fp_{name}" for name in (*EXPRESSIONS, "unknown", "NF")]
    rows = [["split", "file", "fer2013_label", *votes, "leaks_into"]]
    for split, subjects in (("train", range(8)), ("valid", range(8, 11))):
        for place, name in enumerate(CLASSES):
            (tmp_path / "two" / split / name).mkdir(parents=True)
            for subject in subjects:
                file = f"{split}/{name}/{subject}.png"
                save_image(tmp_path / "two" / file, face(subject, name))
                counts = [0] * 10
                # Of one picture a class nobody knew what it shows.
                counts[8 if subject == 0 else EXPRESSIONS.index(name)] = 10
                label = {"anger": "angry", "happiness": "happy"}.get(name, name)
                leaks = "test" if (subject, place) == (7, 3) else ""
                rows.append([split, file, label, *map(str, counts), leaks])
    (tmp_path / "two" / "labels.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")

    config = replace(
        config, data=tmp_path / "two", cache=None, images=4 * STEP, heads=("ferplus", "fer2013"),
        head_weights=(1.0, 0.5), mixup=0.4, balance_by="logits", focal=1.0, optimizer="adamw", learning_rate=1e-3,
        accumulate=2, precision="bf16",
    )  # fmt: skip
    trained = train(config)

    assert {name: len(labels) for name, labels in trained.heads.items()} == {"ferplus": 8, "fer2013": 7}
    assert trained.summary["pictures"] == {"train": 31, "valid": 12}  # the leaking one is left out
    assert zoo.named(config.out).convention["heads"]["fer2013"][0] == "anger"
    row = read_log(config.out)[-1]
    assert row["valid_accuracy"] == pytest.approx((row["valid_accuracy_ferplus"] + row["valid_accuracy_fer2013"]) / 2)


def test_colour_is_learned_and_declared(config):
    trained = train(replace(config, images=2 * STEP, net=replace(NET, colour=True), cache=None, average_mirrored=False))
    assert trained.model.config.channels == 3
    assert zoo.named(config.out).convention["order"] == "RGB"


# Going on -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A run of 20 steps with everything random switched on."""
    return tmp_path_factory.mktemp("unbroken") / "run"


class Died(BaseException):
    """Stands for kill -9: nothing of the story's own runs after it."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["killed between checkpoints", "Ctrl-C"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(kind, config, unbroken, monkeypatch):
    config = replace(config, mixup=0.3, balance_by="sampling", patience=9)
    whole = replace(config, out=unbroken)
    if not unbroken.exists():
        train(whole)
    step, steps = Guard.step, []

    def stumbling(self, *args):
        step(self, *args)
        steps.append(1)
        if len(steps) == 13 and kind == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)
        elif len(steps) == 13:
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "step", stumbling)
        with pytest.raises(Interrupted if kind == "Ctrl-C" else Died):
            train(config)
    train(config)

    assert same(config.out / "last.safetensors", unbroken / "last.safetensors")
    assert same(config.out / "best.safetensors", unbroken / "best.safetensors")
    assert figures(config.out) == figures(unbroken) and len(figures(unbroken)) == 2
    assert (config.out / "model.onnx").read_bytes() == (unbroken / "model.onnx").read_bytes()


def test_a_budget_ends_a_run_with_a_network_and_it_can_go_on(config):
    short = train(replace(config, seconds=1e-3))
    assert [row["images"] for row in read_log(config.out)] == [STEP]
    assert (config.out / "model.onnx").is_file() and short.summary["pictures"]["train"] == 48
    train(config)
    assert read_log(config.out)[-1]["images"] == config.images


def test_patience_ends_a_training_that_does_not_get_better(config):
    train(replace(config, learning_rate=1e-12, ema_half_life=0, report_every=STEP, patience=3))
    assert len(read_log(config.out)) == 4


@pytest.mark.slow
def test_a_changed_setting_or_other_data_are_refused_by_name(config, data, tmp_path):
    train(replace(config, images=2 * STEP))
    with pytest.raises(TrainingError, match=r"learning_rate \(0.05 -> 0.1\)"):
        train(replace(config, images=2 * STEP, learning_rate=0.1))

    changed = replace(config, images=2 * STEP, data=draw(tmp_path / "moved", range(6)), out=tmp_path / "other")
    train(changed)
    draw(tmp_path / "moved", [7])
    with pytest.raises(TrainingError, match="learned from other data: 24 pictures then, 28 now"):
        train(changed)


@pytest.mark.slow
def test_bad_numbers_are_gone_back_from_at_half_the_rate_three_times(config, monkeypatch, capfd):
    config = replace(config, report_every=2 * STEP)
    train(replace(config, images=4 * STEP, out=config.out.with_name("good")))
    rates, loss = [], story.batch_loss

    def spoilt(model, teachers, material, indices, given, device):
        rates.append(spoilt.rate())
        value = loss(model, teachers, material, indices, given, device)
        return value * torch.nan if len(rates) > 4 else value

    guards = []
    monkeypatch.setattr(story, "Guard", lambda **options: guards.append(Guard(**options)) or guards[0])
    spoilt.rate = lambda: guards[0].scale
    monkeypatch.setattr(story, "batch_loss", spoilt)
    with pytest.raises(TrainingError, match="no number, even at 1/8 of the learning rate; 3 times") as error:
        train(config)

    assert str(4 * STEP) in str(error.value)
    assert sorted(set(rates), reverse=True) == [1, 0.5, 0.25, 0.125]
    assert capfd.readouterr().err.count("at half the learning rate") == 3
    # What was good is still there.
    assert load_file(config.out / "last.safetensors") and [r["images"] for r in read_log(config.out)] == [32, 64]


@pytest.mark.slow
def test_two_processes_publish_one_network(config, data, forks):
    code = """
        import os, sys, torch, mien.data.crops, mien.training.card
        from pathlib import Path
        from safetensors.torch import save_file
        from mien.networks import ExpressionNetConfig
        from mien.training.expression import ExpressionConfig, train
        from mien.training.ranks import Ranks

        class Blind:
            def detect(self, image): return []
        mien.data.crops.patient_detector = Blind
        mien.training.card.draw_curves = lambda rows: None
        torch.set_num_threads(1)
        data, out = map(Path, sys.argv[1:])
        net = ExpressionNetConfig(side=24, stem=4, widths=(8, 16), blocks=(1, 1))
        trained = train(ExpressionConfig(data=data, out=out, images=96, batch_size=16, report_every=48, net=net,
                                         frame=32, canvas=48, device="cpu"))
        rank = os.environ["RANK"]
        state = {key: value.contiguous() for key, value in trained.model.state_dict().items()}
        save_file(state, out / f"rank{rank}.safetensors")
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [forks / "python", "-c", textwrap.dedent(code), str(data), str(config.out)],
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], said
    assert same(config.out / "rank0.safetensors", config.out / "rank1.safetensors")
    assert len(read_log(config.out)) == 2 and (config.out / "card.json").is_file()


# Before anything is learned -------------------------------------------------------------------------------------------


def test_a_dry_run_tells_size_and_speed_and_writes_nothing(config):
    dry = dry_run(replace(config, cache=None))
    assert (dry.train, dry.valid, dry.heads) == (48, 16, {"expression": CLASSES})
    assert dry.parameters == 4 * 9 + 8 + (8 * 4 * 9 + 8 * 8 * 9 + 8 * 4 + 3 * 16) + (
        16 * 8 * 9 + 16 * 16 * 9 + 16 * 8 + 3 * 32
    ) + (16 * 4 + 4)
    assert dry.macs > 1e5 and dry.images_per_second > 0
    assert not config.out.exists()


def test_one_class_is_nothing_to_tell_apart(config, tmp_path):
    with pytest.raises(DataError, match="only happiness"):
        train(replace(config, data=draw(tmp_path / "one", range(4), ["happiness"])))
    assert not config.out.exists()


def test_an_empty_class_is_pointed_out(config, tmp_path, capfd):
    draw(tmp_path / "gap", range(4), CLASSES[:2])
    (tmp_path / "gap" / "fear").mkdir()
    dry_run(replace(config, data=tmp_path / "gap", cache=None, valid_share=0.25))
    assert "shows fear" in capfd.readouterr().err


def test_one_picture_is_too_few(config, tmp_path):
    draw(tmp_path / "lonely", [0], CLASSES[:1])
    with pytest.raises(DataError):
        train(replace(config, data=tmp_path / "lonely"))
    assert not config.out.exists()


def test_classes_that_are_no_expressions_are_refused(config, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(3):
            save_image(tmp_path / "pets" / name / f"{k}.png", face(k, "neutral"))
    with pytest.raises(DataError, match=r"cat, dog .*no expressions"):
        train(replace(config, data=tmp_path / "pets"))


@pytest.mark.slow
def test_pictures_that_stand_in_train_and_valid_are_left_out_or_refused(config, tmp_path, capfd):
    folder = tmp_path / "again"
    draw(folder / "train", range(6))
    draw(folder / "valid", range(5, 8))
    draw(folder / "test", range(4, 5))
    config = replace(config, data=folder, cache=None, images=STEP)

    trained = train(config)
    assert trained.summary["pictures"] == {"train": 16, "valid": 12}
    assert "8 training pictures stand in another split too (train/anger/4.png" in capfd.readouterr().err
    with pytest.raises(DataError, match="leave --strict out"):
        train(replace(config, strict=True, out=tmp_path / "strict"))
    kept = train(replace(config, drop_leaks=False, out=tmp_path / "kept"))
    assert kept.summary["pictures"]["train"] == 24


def test_unreadable_pictures_are_left_out_and_named(config, tmp_path, capfd):
    folder = draw(tmp_path / "torn", range(6))
    (folder / "anger" / "9.png").write_bytes(b"no picture")
    trained = train(replace(config, data=folder, cache=None, images=STEP))
    assert sum(trained.summary["pictures"].values()) == 24
    assert "1 pictures cannot be read" in (said := capfd.readouterr().err) and "anger/9.png" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"heads": ("mood",)}, "no target mood; they have expression"),
        ({"init": Path("nowhere")}, "is no expression network"),
        ({"teachers": (Path("nowhere"),)}, "is no expression network"),
        ({"device": "abacus"}, "abacus"),
    ],
    ids=str,
)
def test_settings_that_the_data_or_the_machine_do_not_have_are_refused(config, wrong, said):
    with pytest.raises(MienError, match=said):
        train(replace(config, **wrong))


@pytest.mark.slow
def test_runs_of_another_architecture_neither_start_nor_teach_this_one(finished, config):
    _, older = finished
    other = replace(config, net=replace(NET, widths=(8, 24)), init=older.out)
    with pytest.raises(TrainingError, match="another architecture"):
        train(other)
    bigger = replace(
        config, out=config.out.with_name("b"), net=replace(NET, side=32), teachers=(older.out,), cache=None
    )
    with pytest.raises(TrainingError, match=r"reads 24 px in grey .*this one reads 32 px"):
        train(bigger)


@pytest.mark.parametrize(
    "wrong",
    [
        {"template": "round"},
        {"frame": 64, "canvas": 48},
        {"smoothing": 1.5},
        {"learning_rate": 0.0},
        {"mixup": -1.0},
        {"heads": ("a", "b"), "head_weights": (1.0,)},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(config, wrong):
    with pytest.raises(UsageError):
        replace(config, **wrong)


def test_frozen_blocks_and_their_statistics_stay_as_they_began(config):
    trunk = replace(config, net=ExpressionNetConfig(arch="face-trunk", side=32, zoom=1.5), pretrained=False)
    trained = train(replace(trunk, images=2 * STEP, frozen=2, learning_rate=0.01))
    torch.manual_seed(config.seed)
    began = story.expression_net(trunk.net, {"expression": len(CLASSES)}).state_dict()
    moved = {key for key, value in trained.model.state_dict().items() if not torch.equal(value, began[key])}

    assert not any(key.startswith(("stem", "norm.", "blocks.0.", "blocks.1.")) for key in moved)
    assert {"blocks.2.conv1.weight", "blocks.2.norm1.running_mean", "heads.expression.weight"} <= moved


def test_frozen_blocks_are_those_of_a_face_trunk(config):
    with pytest.raises(UsageError, match="'frozen' counts blocks of a face-trunk, 0 to 13, got 2 for residual"):
        replace(config, frozen=2)


def test_the_card_says_which_class_shares_were_learned(config, tmp_path):
    folder = draw(tmp_path / "few", range(8))
    for k in range(6):
        (folder / CLASSES[0] / f"{k}.png").unlink()
    plain = replace(config, data=folder, cache=None, images=STEP, valid_share=0.25)
    for how, settings in (("as they are", {}), ("alike", {"balance_by": "sampling", "balance_strength": 1.0})):
        train(replace(plain, out=tmp_path / how, **settings))
    natural, alike = (zoo.named(tmp_path / how).convention["shares"]["expression"] for how in ("as they are", "alike"))
    assert min(natural) == pytest.approx(0.1) and sum(natural) == pytest.approx(1, abs=1e-3)
    assert alike == pytest.approx([1 / len(CLASSES)] * len(CLASSES), abs=1e-3)
