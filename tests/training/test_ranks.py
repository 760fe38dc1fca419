import os
import socket
import subprocess
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mien.errors import UsageError
from mien.training.ranks import Ranks

STORY = """
    import sys
    from dataclasses import dataclass
    from pathlib import Path
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from mien.training.config import TrainingConfig
    from mien.training.ema import EMA
    from mien.training.guard import Guard
    from mien.training.ranks import Ranks
    from mien.training.run import Progress, Run

    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    ranks = Ranks.join()
    config = TrainingConfig(out=out, batch_size=8, images=80)
    pictures = torch.rand(64, 6, generator=torch.Generator().manual_seed(0))
    with Run(out, config, may_change={"images"}, ranks=ranks) as run:
        torch.manual_seed(ranks.rank)  # the broadcast has to mend this
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        ranks.broadcast(model)
        ema, guard, progress = EMA(model, 40), Guard(clip=1.0), Progress()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        parts = dict(model=model, ema=ema, optimizer=optimizer, progress=progress, guard=guard)
        run.load_state(**parts)
        while progress.images < config.images and not ranks.any(ranks.is_main and progress.images == int(sys.argv[2])):
            order = torch.randperm(64, generator=torch.Generator().manual_seed(progress.images))
            x = pictures[ranks.shard(order[:8])]
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            ranks.mean_gradients(model)
            guard.step(optimizer, model, loss)
            ema.update(model, 8)
            progress.images += 8
        with ranks.main_first():
            if ranks.is_main:
                (out / "first").touch()
            assert (out / "first").exists(), "the main process was first"
        told = ranks.from_main(lambda: {"rank": ranks.rank, "loss": float("nan")})
        assert told["rank"] == 0 and told["loss"] != told["loss"], "what the main process made"
        run.log(images=progress.images, train_loss=ranks.mean(guard.mean_loss()))
        run.save_state(**parts)
        save_file(ema.model.state_dict(), out / f"rank{ranks.rank}.safetensors")
    ranks.close()
    left = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]  # Linux; elsewhere none
    assert not [name for name in left if "gloo" in name], f"these outlive the processes' group: {left}"
"""


def run_story(python, out, world, until=-1):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out.mkdir(exist_ok=True)
    processes = [
        subprocess.Popen(
            [python, "-c", textwrap.dedent(STORY), str(out), str(until)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "WORLD_SIZE": str(world),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(world)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return [load_file(out / f"rank{rank}.safetensors") for rank in range(world)]


@pytest.mark.slow
def test_two_processes_train_what_one_does_also_across_a_resume(forks, tmp_path):
    (alone,) = run_story(forks / "python", tmp_path / "alone", 1)

    run_story(forks / "python", tmp_path / "both", 2, until=40)
    both = run_story(forks / "python", tmp_path / "both", 2)

    for theirs in both:
        assert all(torch.allclose(theirs[name], alone[name], rtol=0, atol=1e-6) for name in alone)
    assert all(torch.equal(both[0][name], both[1][name]) for name in alone)
    assert len((tmp_path / "both/log.jsonl").read_text().splitlines()) == 2


def test_pieces_of_a_batch_are_equal_contiguous_and_complete():
    batch = torch.arange(6)

    pieces = [Ranks(rank, 3).shard(batch) for rank in range(3)]

    assert torch.equal(torch.cat(pieces), batch) and {len(piece) for piece in pieces} == {2}
    assert Ranks().shard([1, 2, 3]) == [1, 2, 3]


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(UsageError, match="A batch of 5 cannot be shared evenly by 2 processes"):
        Ranks(0, 2).shard(range(5))


def test_one_process_alone_needs_no_set_up(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.join()

    assert ranks == Ranks(0, 1, 0) and ranks.is_main
    assert ranks.mean(2.5) == 2.5 and ranks.any(True) and not ranks.any(False)
    assert ranks.from_main(lambda: {"loss": 1.5}) == {"loss": 1.5}
    with ranks.main_first():
        pass
    ranks.close()


def test_a_rank_outside_the_world_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(UsageError, match=r"got 2 of 2\. Start with torchrun"):
        Ranks.join()
