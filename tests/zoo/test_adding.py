import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mien import zoo
from mien.errors import ModelError
from mien.zoo import adding, fetch
from mien.zoo.conventions import CONVENTIONS

from .nets import Net, centerface, embedder, expression, retinaface, scrfd, yunet

SHIPPED = {card.name: "ok" for card in zoo.cards() if card.source.kind == "weights"}


@pytest.fixture
def add(home, tmp_path):
    """Add a network under the name `mine`."""

    def call(net, convention="arcface-112", *, name="mine", **facts):
        path = net if not isinstance(net, Net) else net.save(tmp_path / "mine.onnx")
        role = facts.pop("role", None) or CONVENTIONS[convention].role
        return adding.add(path, name=name, role=role, convention_name=convention, **facts)

    return call


def outputs(name: str, shape) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(zoo.path(name), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": np.zeros(shape, np.float32)}), strict=True))


def test_an_embedder_that_fits_becomes_a_model_like_any_other(add, tmp_path):
    card = add(embedder(), licence='MIT, "quoted"', training_data="faces\nof two lines")

    assert zoo.card("mine") == card
    assert card.convention["template"] == "arcface-112" and card.convention["dimension"] == 64
    assert card.convention["scale"] == 1 / 127.5
    assert card.licence == 'MIT, "quoted"' and card.training_data == "faces\nof two lines"
    assert card.source.sha256 == hashlib.sha256((tmp_path / "mine.onnx").read_bytes()).hexdigest()
    assert zoo.verify() == {"mine": "ok", **SHIPPED}
    assert outputs("mine", (3, 3, 112, 112))["embedding"].shape == (3, 64)


def test_removing_a_users_model_removes_its_card(add):
    add(embedder())
    zoo.remove("mine")

    with pytest.raises(ModelError, match=r"no model 'mine'"):
        zoo.card("mine")


def test_a_batch_of_one_is_freed_where_the_network_allows_it(add):
    card = add(embedder(batch=1))

    assert "batch" not in card.convention
    assert outputs("mine", (2, 3, 112, 112))["embedding"].shape == (2, 64)


def test_a_network_that_stands_one_picture_only_says_so_on_its_card(add):
    card = add(embedder(batch=1, batch_reshape=1))

    assert card.convention["batch"] == 1
    assert outputs("mine", (1, 3, 112, 112))["embedding"].shape == (1, 64)


def test_further_outputs_are_dropped(add):
    add(embedder(extra=True))

    assert list(outputs("mine", (1, 3, 112, 112))) == ["embedding"]


def renamed_input() -> Net:
    net = Net(["n", 3, 112, 112])
    net.outputs = [net.node("Flatten", net.node("CustomThing", "x", domain="com.example"))]
    return net


def half_input() -> Net:
    net = Net(["n", 3, 112, 112], TensorProto.FLOAT16)
    net.outputs = [net.node("Cast", "x", to=TensorProto.FLOAT)]
    return net


def constant() -> Net:
    return embedder(scale=0.0)


def not_finite() -> Net:
    net = embedder()
    net.outputs = [net.node("Log", net.node("Neg", net.node("Abs", "embedding")))]
    return net


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (embedder(150), r"takes \(batch, 3, 112, 112\), this file takes \(free, 3, 150, 150\)"),
        (embedder(channels=1), r"this file takes \(free, 1, 112, 112\)"),
        (Net(["n", 112, 112, 5]), r"this file takes \(free, 112, 112, 5\)"),
        (Net(["n", 3, 112]), r"this file takes \(free, 3, 112\)"),
        (embedder(dimension=8), r"at least 32; this gives \(2, 8\)"),
        (half_input(), "takes float32, this file takes float16"),
        (constant(), "same embedding for different pictures"),
        (not_finite(), "not finite"),
        (renamed_input(), r"custom operators \(com.example\)"),
    ],
    ids=["side", "channels", "layout", "rank", "dimension", "float16", "constant", "NaN", "custom operator"],
)
def test_an_embedder_that_does_not_fit_is_refused_and_not_kept(add, home, net, message):
    if not net.outputs:
        net.outputs = [net.node("Identity", "x")]

    with pytest.raises(ModelError, match=message):
        add(net)

    assert not (home / "models").exists()
    assert not list((home / "models.d").iterdir())


def test_what_is_no_onnx_file_is_refused(add, tmp_path):
    for content in (b"", b"a text that is no network", b"\x08\x08"):
        (tmp_path / "text.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=r"not an ONNX file"):
            add(tmp_path / "text.onnx")


def test_weights_in_a_second_file_are_refused(add, tmp_path):
    model = embedder().model()
    onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, tmp_path / "outside.onnx")

    with pytest.raises(ModelError, match=r"external data"):
        add(tmp_path / "outside.onnx")


def test_weights_outside_are_noticed_inside_branches_too(add, tmp_path):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "inner", [], [], [tensor])
    net = embedder()
    net.node("If", "x", then_branch=inner, else_branch=inner)

    with pytest.raises(ModelError, match=r"external data"):
        add(net)


def test_two_inputs_are_one_too_many(add, tmp_path):
    model = embedder().model()
    model.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(ModelError, match=r"has one input, the picture; this file has 2"):
        add(tmp_path / "two.onnx")


def test_a_graph_that_onnx_runtime_refuses_is_one_line(add):
    net = embedder()
    net.node("NoSuchOperator", "x")

    with pytest.raises(ModelError, match=r"cannot run the file") as caught:
        add(net)
    assert "\n" not in str(caught.value)


def test_a_file_too_large_or_missing_is_refused_unread(add, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"gone.onnx cannot be read"):
        add(tmp_path / "gone.onnx")
    monkeypatch.setattr(adding, "MAX_FILE_BYTES", 100)
    with pytest.raises(ModelError, match=r"the limit is 1 GiB"):
        add(embedder())


def test_names_are_checked(add):
    with pytest.raises(ModelError, match=r"lower-case"):
        add(embedder(), name="../evil")
    with pytest.raises(ModelError, match=r"mien's own"):
        add(embedder(), name="centerface")
    first = add(embedder())
    with pytest.raises(ModelError, match=r"--replace"):
        add(embedder(dimension=128))
    assert add(embedder(dimension=128), replace=True).id != first.id


def test_a_convention_belongs_to_a_role(add):
    with pytest.raises(ModelError, match=r"one of arcface-112, .* 'scrfd' is for the role detector"):
        add(embedder(), "scrfd", role="embedder")
    with pytest.raises(ModelError, match=r"got 'nonsense'\.$"):
        add(embedder(), "nonsense", role="embedder")


class TestDigest:
    def test_a_file_with_the_expected_digest_is_taken(self, add, tmp_path):
        digest = hashlib.sha256(embedder().save(tmp_path / "m.onnx").read_bytes()).hexdigest()

        assert add(tmp_path / "m.onnx", sha256=digest.upper()).source.sha256 == digest

    def test_another_is_refused(self, add):
        with pytest.raises(ModelError, match=r"nothing was kept"):
            add(embedder(), sha256="0" * 64)
        with pytest.raises(ModelError, match=r"has 64 hexadecimal digits"):
            add(embedder(), sha256="0")

    def test_an_address_needs_one(self, add, tmp_path, monkeypatch):
        data = embedder().save(tmp_path / "m.onnx").read_bytes()
        monkeypatch.setattr(fetch, "download_url", lambda url, limit: data)
        with pytest.raises(ModelError, match=r"needs --sha256"):
            add("https://example.org/m.onnx")

        card = add("https://example.org/m.onnx", sha256=hashlib.sha256(data).hexdigest())

        assert card.origin == "https://example.org/m.onnx"
        assert zoo.path("mine").is_file()


class TestDetectors:
    def test_centerface_of_one_size_is_freed(self, add):
        card = add(centerface(), "centerface")

        assert "side" not in card.convention
        assert [v.shape for v in outputs("mine", (1, 3, 96, 64)).values()] == [(1, c, 24, 16) for c in (1, 2, 2, 10)]

    def test_outputs_of_scrfd_are_put_in_order(self, add):
        add(scrfd(order=[3, 0, 6, 4, 1, 7, 5, 2, 8]), "scrfd")

        wanted = [f"out{columns}_{stride}" for columns in (1, 4, 10) for stride in (8, 16, 32)]
        assert list(outputs("mine", (1, 3, 64, 64))) == wanted

    def test_scrfd_that_stands_one_size_only_says_so(self, add):
        assert add(scrfd((1, 3, 320, 320), fixed_rows=True), "scrfd").convention["side"] == 320

    def test_outputs_of_yunet_are_put_in_order_by_name(self, add):
        add(yunet(), "yunet")

        names = list(outputs("mine", (1, 3, 64, 64)))
        assert names[:4] == ["cls_8", "cls_16", "cls_32", "obj_8"] and names[-1] == "kps_32"

    @pytest.mark.parametrize(
        ("net", "convention", "message"),
        [
            (centerface(), "scrfd", "scrfd has 9 outputs, this file has 4"),
            (centerface(sigmoid=False), "centerface", r"lie in \[0, 1\]"),
            (scrfd(anchors=1), "scrfd", r"answers \(640, 1\), \(160, 1\).*this file answers \(320, 1\)"),
            (yunet(names=("a", "b", "c", "d")), "yunet", "yunet has outputs cls_8"),
            (scrfd((1, 3, 72, 72), fixed_rows=True), "scrfd", "takes 72 x 72 px only"),
        ],
        ids=["count", "logits", "anchors", "names", "odd side"],
    )
    def test_a_detector_that_does_not_fit_is_refused(self, add, net, convention, message):
        with pytest.raises(ModelError, match=message):
            add(net, convention)

    def test_a_fixed_size_that_is_no_square_is_refused(self, add):
        net = centerface((1, 3, 64, 96))
        # A constant of one size added on makes the network stand that size only.
        net.outputs[3] = net.node("Add", net.outputs[3], net.weight(np.zeros((1, 10, 16, 24), np.float32)))

        with pytest.raises(ModelError, match=r"takes 96 x 64 px only"):
            add(net, "centerface")


class TestExpressions:
    def test_logits_and_probabilities_are_told_apart(self, add):
        assert add(expression(), "hsemotion-224").convention["answers"] == "logits"
        card = add(expression(softmax=True), "hsemotion-224", replace=True)
        assert card.convention["answers"] == "probabilities"
        assert card.convention["labels"][0] == "anger" and card.convention["scale"][0] == 1 / 58.395

    def test_valence_and_arousal_may_follow_the_classes(self, add):
        labels = add(expression(classes=10), "hsemotion-224").convention["labels"]

        assert labels[8:] == ["valence", "arousal"]

    def test_grey_networks_for_one_picture_fit(self, add):
        card = add(expression(64, channels=1, batch=1, batch_reshape=1), "ferplus-64")

        assert card.convention["batch"] == 1 and card.convention["labels"][0] == "neutral"

    def test_another_number_of_classes_is_refused(self, add):
        with pytest.raises(ModelError, match=r"answers \(batch, 8\), .* this gives \(2, 7\)"):
            add(expression(classes=7), "hsemotion-224")


def test_weights_in_blocks_become_float32_and_inputs_that_nothing_uses_are_no_inputs(add, tmp_path):
    """As the OpenCV Zoo quantises: a Reshape after each, biases in one block, replaced weights left as inputs."""
    rng = np.random.default_rng(0)
    values, bias = rng.integers(-128, 128, (6, 48), dtype=np.int8), rng.integers(-128, 128, 48, dtype=np.int8)
    scales = rng.uniform(1e-3, 2e-3, (2, 48)).astype(np.float32)
    weights = {
        "w.quantized": values, "w.scales": scales, "w.zero": np.zeros((2, 48), np.int8),
        "b.quantized": bias, "b.scales": np.float32([0.01]), "b.zero": np.zeros(1, np.int8),
        "w.shape": np.array([12, 24], np.int64), "b.shape": np.array([48], np.int64),
        "flat": np.array([0, -1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["w.quantized", "w.scales", "w.zero"], ["w.flat"], axis=0, block_size=3),
        helper.make_node("Reshape", ["w.flat", "w.shape"], ["w.made"]),
        helper.make_node("DequantizeLinear", ["b.quantized", "b.scales", "b.zero"], ["b.flat"], axis=0, block_size=48),
        helper.make_node("Reshape", ["b.flat", "b.shape"], ["b.made"]),
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[56, 56], strides=[56, 56]),
        helper.make_node("Reshape", ["pooled", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w.made"], ["narrow"]),
        helper.make_node("Concat", ["narrow", "narrow"], ["wide"], axis=1),
        helper.make_node("Add", ["wide", "b.made"], ["embedding"]),
    ]
    inputs = [("x", ["n", 3, 112, 112]), ("w", [12, 24]), ("w.scales", [2, 48])]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=6)
    path = tmp_path / "quantised.onnx"
    path.write_bytes(model.SerializeToString())

    add(path, "arcface-112")

    x = rng.normal(size=(2, 3, 112, 112)).astype(np.float32)
    session = onnxruntime.InferenceSession(zoo.path("mine"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x})
    pooled = x.reshape(2, 3, 2, 56, 2, 56).mean(axis=(3, 5)).reshape(2, 12)
    narrow = pooled @ (values * np.repeat(scales, 3, axis=0)).reshape(12, 24)
    np.testing.assert_allclose(got, np.concatenate([narrow, narrow], axis=1) + bias * 0.01, atol=1e-4)
    assert [item.name for item in session.get_inputs()] == ["x"]


def channels_last() -> Net:
    """A network as TensorFlow exports it: (batch, height, width, channels), here of one grey channel."""
    net = Net(["n", 48, 48, 1])
    x = net.node("Reshape", "x", net.weight(np.array([0, -1], np.int64)))
    matrix = net.rng.normal(0, 0.01, (48 * 48, 7)).astype(np.float32)
    net.outputs = [net.node("Softmax", net.node("MatMul", x, net.weight(matrix)), axis=1)]
    return net


def test_a_network_that_takes_channels_last_gets_a_transpose(add):
    card = add(channels_last(), "deepface-48")

    session = onnxruntime.InferenceSession(zoo.path("mine"), providers=["CPUExecutionProvider"])
    (put,) = session.get_inputs()
    assert put.shape[1:] == [1, 48, 48] and card.convention["answers"] == "probabilities"
    assert session.run(None, {put.name: np.zeros((3, 1, 48, 48), np.float32)})[0].shape == (3, 7)


def test_an_embedding_that_is_a_column_of_a_map_is_flattened(add):
    net = embedder()
    net.outputs = [net.node("Unsqueeze", "embedding", net.weight(np.array([2, 3], np.int64)), name="map")]

    card = add(net)

    assert card.convention["dimension"] == 64
    assert outputs("mine", (2, 3, 112, 112))["map.flat"].shape == (2, 64)


def test_retinafaces_outputs_are_put_in_order_by_their_columns(add):
    add(retinaface(order=(2, 0, 1)), "retinaface")

    columns = [answer.shape[-1] for answer in outputs("mine", (1, 3, 64, 96)).values()]
    assert columns == [4, 2, 10]


@pytest.mark.parametrize(
    ("net", "convention", "message"),
    [
        (retinaface(softmax=False), "retinaface", "Export it with its last sigmoid or softmax"),
        (retinaface(columns=(4, 2, 8)), "retinaface", r"outputs of \(4, 2, 10\) columns; this file has one of 8"),
        (scrfd(order=range(6)), "scrfd", "It finds no landmarks"),
    ],
    ids=["logits", "columns", "no landmarks"],
)
def test_detectors_that_do_not_fit_say_what_they_lack(add, net, convention, message):
    with pytest.raises(ModelError, match=message):
        add(net, convention)
