"""A story small enough to read at a glance: fit a line through noisy points with dropout, momentum and an average."""

from dataclasses import dataclass

import torch
from torch import nn

from mien.training.config import TrainingConfig
from mien.training.ema import EMA
from mien.training.guard import Guard
from mien.training.ranks import Ranks
from mien.training.run import Progress, Run
from mien.training.schedule import warmup_cosine
from mien.training.stopping import EarlyStopping


@dataclass(frozen=True, kw_only=True)
class ToyConfig(TrainingConfig):
    images: int = 160
    batch_size: int = 8
    report_every: int = 40
    lr: float = 0.1
    dropout: float = 0.2
    width: int = 8


class Died(BaseException):
    """Stands for kill -9: nothing of the story's own runs after it."""


class Toy(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x))).mean((2, 3))))


def train(config, *, die_at=None, spoil=lambda images, loss: loss, **options):
    """Train; return (model, ema, guard). ``die_at`` kills before the step at that position."""
    torch.set_num_threads(1)  # sums are the same to the last bit only with as many threads
    ranks = options.pop("ranks", Ranks())
    with Run(config.out, config, may_change={"images"}, ranks=ranks, **options) as run:
        torch.manual_seed(config.seed)
        model = Toy(config.width, config.dropout).to(memory_format=torch.channels_last)
        ema = EMA(model, half_life_images=50)
        optimizer = torch.optim.SGD(model.parameters(), config.lr, momentum=0.9)
        progress, guard, stopping = Progress(), Guard(clip=5.0, patience=3), EarlyStopping(0, higher_is_better=False)
        parts = {
            "model": model,
            "ema": ema,
            "optimizer": optimizer,
            "progress": progress,
            "guard": guard,
            "stopping": stopping,
        }
        run.load_state(**parts)
        while progress.images < config.images:
            if progress.images == die_at:
                raise Died
            run.seed_position(progress.images)
            optimizer.param_groups[0]["lr"] = guard.scale * warmup_cosine(progress.images, 160, 16, config.lr)
            x = torch.randn(config.batch_size, 1, 6, 6)
            y = (x.mean((1, 2, 3)) > 0).long()
            loss = spoil(progress.images, nn.functional.cross_entropy(model(x), y))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            guard.step(optimizer, model, loss)
            ema.update(model, config.batch_size)
            progress.images += config.batch_size
            if progress.images % config.report_every == 0 or progress.images >= config.images:
                mean = guard.mean_loss()
            if guard.broken:
                guard.recover(run, **parts)
            elif progress.images % config.report_every == 0 or progress.images >= config.images:
                if stopping.update(mean, progress.images):
                    run.save_best(model=ema.model)
                run.log(images=progress.images, train_loss=mean, lr=optimizer.param_groups[0]["lr"])
                run.save_state(**parts)
        return model, ema, guard
