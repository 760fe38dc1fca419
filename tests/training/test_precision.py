import pytest
import torch
from torch import nn

from mien.errors import UsageError
from mien.training import precision
from mien.training.precision import autocast, choose_device, fast_precision


@pytest.fixture
def processor(monkeypatch):
    """Let the processor have instructions, by name; what was found out of the real one is forgotten."""
    told = (precision._cpu_multiplies_bf16, precision._tell_of_fp32)

    def has(*names):
        for kept in told:
            kept.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True) | {"amx_tile": False})

    yield has
    for kept in told:
        kept.cache_clear()


def test_bf16_computes_layers_in_bfloat16_and_keeps_weights_in_float32(processor):
    processor("avx512_bf16")
    layer = nn.Linear(4, 4)

    with autocast(torch.device("cpu"), "bf16"):
        answer = layer(torch.ones(2, 4))
    answer.float().sum().backward()

    assert answer.dtype == torch.bfloat16
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32


def test_fp32_changes_nothing():
    layer = nn.Linear(4, 4)

    with autocast(torch.device("cpu"), "fp32"):
        assert layer(torch.ones(2, 4)).dtype == torch.float32


@pytest.mark.parametrize(("able", "fast"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_bfloat16_is_used_where_the_processor_has_instructions_for_it(able, fast, processor):
    processor(able)

    assert fast_precision(torch.device("cpu")) == fast
    assert fast_precision(torch.device("cuda")) == "bf16"


def test_bf16_that_the_processor_would_emulate_is_fp32_and_that_is_said_once(processor, capsys):
    processor("avx2")
    layer = nn.Linear(4, 4)

    for _ in range(2):
        with autocast(torch.device("cpu"), "bf16"):
            assert layer(torch.ones(2, 4)).dtype == torch.float32

    assert capsys.readouterr().err.count("it runs in fp32") == 1


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_of_several_processes_only_the_first_one_says_that_it_runs_in_fp32(rank, lines, processor, monkeypatch, capsys):
    processor("avx2")
    monkeypatch.setenv("RANK", rank)

    autocast(torch.device("cpu"), "bf16")

    assert len(capsys.readouterr().err.splitlines()) == lines


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(local_rank=1) == torch.device("cuda", 1)
    assert choose_device("cuda:0", local_rank=1) == torch.device("cuda", 0)


def test_the_threads_that_were_asked_for_are_the_networks_also_while_training(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("MIEN_THREADS", "3")
        choose_device("cpu")
        assert torch.get_num_threads() == 3
        monkeypatch.delenv("MIEN_THREADS")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        choose_device("cpu")
        assert torch.get_num_threads() == 3  # left as PyTorch set it when it started
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name, message",
    [
        ("cuda:7", r"'cuda:7' was asked for, but PyTorch .* sees \d+ GPUs. Choose --device auto"),
        ("gpu", "Device 'gpu' is not known. Choose auto, cpu, cuda, cuda:1 or mps"),
        ("cuda:x", "Device 'cuda:x' is not known"),
    ],
)
def test_a_device_that_is_not_there_is_a_clear_line(name, message):
    with pytest.raises(UsageError, match=message):
        choose_device(name)
