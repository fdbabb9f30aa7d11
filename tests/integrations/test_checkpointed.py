"""`checkpointed`: a loop that is cut off after any report and goes on from there trains as if it had not been."""

from __future__ import annotations

import random
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import raytune_hpo
from raytune_hpo import TrialError, checkpointed, load_state
from raytune_hpo.integrations.carried import carried
from raytune_hpo.workers.outcomes import Raised

EPOCHS = 5


def data(**options):
    x = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 8, shuffle=True, **options)


class Noisy(TensorDataset):
    """Draws in the processes that read it, as augmentation does."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(4) + random.random() / 100, y


def noisy(**options):
    return DataLoader(Noisy(*data().dataset.tensors), 8, shuffle=True, **options)


def schedule(kind, optimizer):
    lr = torch.optim.lr_scheduler
    return {
        "step": lambda: lr.StepLR(optimizer, 2, 0.5),
        "cosine": lambda: lr.CosineAnnealingLR(optimizer, EPOCHS),
        "plateau": lambda: lr.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9),
        "warm": lambda: lr.SequentialLR(
            optimizer, [lr.LinearLR(optimizer, 0.1, total_iters=2), lr.ExponentialLR(optimizer, 0.9)], [2]
        ),
        "one_cycle": lambda: lr.OneCycleLR(optimizer, 0.01, total_steps=EPOCHS),
    }[kind]()


def train(config):
    """A plain loop, with all that people have in one."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    loader = config["loader"](generator=torch.Generator().manual_seed(3)) if config["own"] else config["loader"]()
    optimizer = config["optimizer"](model.parameters(), lr=config["lr"], weight_decay=config["decay"])
    scheduler = schedule(config["schedule"], optimizer)
    numbers, history = np.random.default_rng(5), {"losses": []}
    holding = checkpointed(
        model=model, optimizer=optimizer, scheduler=scheduler, loader=loader, numbers=numbers, history=history
    )
    with holding as state:
        for _ in state.epochs(EPOCHS):
            total = 0.0
            for x, y in loader:
                loss = nn.functional.mse_loss(model(x), y) * (1 + numbers.random() / 10)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() + np.random.rand() / 1000 + random.random() / 1000
            history["losses"].append(total)
            scheduler.step(*([total] if config["schedule"] == "plateau" else []))
            state.report(loss=total, rates=[g["lr"] for g in optimizer.param_groups], seen=sum(history["losses"]))


CONFIGS = [
    {"loader": data, "own": False, "optimizer": torch.optim.SGD, "lr": 0.05, "decay": 0.0, "schedule": "step"},
    {"loader": data, "own": True, "optimizer": torch.optim.AdamW, "lr": 0.05, "decay": 0.1, "schedule": "cosine"},
    {"loader": noisy, "own": True, "optimizer": torch.optim.Adam, "lr": 0.05, "decay": 0.0, "schedule": "plateau"},
    {"loader": data, "own": False, "optimizer": torch.optim.RMSprop, "lr": 0.01, "decay": 0.0, "schedule": "warm"},
    {"loader": noisy, "own": False, "optimizer": torch.optim.SGD, "lr": 0.05, "decay": 0.0, "schedule": "one_cycle"},
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c["schedule"])
def test_cut_off_after_any_report_it_goes_on_to_the_bit(trial, config):
    whole, end, _ = trial(train, config)
    assert len(whole) == EPOCHS, end
    for cut in range(1, EPOCHS):
        first, _, paused = trial(train, config, reports=cut)
        assert [r.metrics for r in first] == [r.metrics for r in whole[:cut]]
        for start in (first[-1].checkpoint, paused):  # as it was reported; as a pause saves it
            rest, end, _ = trial(train, config, start=start)
            assert [r.metrics for r in rest] == [r.metrics for r in whole[cut:]], (cut, end)


def test_workers_that_read_draw_the_same(trial):
    config = {**CONFIGS[2], "loader": lambda **options: noisy(num_workers=2, **options)}
    whole, _, _ = trial(train, config)
    first, _, _ = trial(train, config, reports=2)
    rest, _, _ = trial(train, config, start=first[-1].checkpoint)
    assert [r.metrics for r in rest] == [r.metrics for r in whole[2:]]


def train_on_a_gpu(config):
    """As people do: half precision with a scaler, dropout of the device's generator, batches sent there."""
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], fused=config["fused"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**17, growth_interval=4)
    loader = data(pin_memory=True)
    holding = checkpointed(model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler, loader=loader)
    with holding as state:
        for _ in state.epochs(EPOCHS):
            total = torch.zeros((), device="cuda")
            for x, y in loader:
                optimizer.zero_grad()
                with torch.autocast("cuda", dtype=torch.float16):
                    loss = nn.functional.mse_loss(model(x.cuda(non_blocking=True)), y.cuda())
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                total += loss.detach()
            scheduler.step()
            state.report(loss=total, scale=scaler.get_scale(), noise=torch.rand((), device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fused", [False, True])
def test_on_a_gpu(trial, fused):
    config = {"lr": 0.05, "fused": fused}
    whole, end, _ = trial(train_on_a_gpu, config)
    assert len(whole) == EPOCHS, end
    own = [{k: v for k, v in r.metrics.items() if k != "gpu_memory_bytes"} for r in whole]
    for cut in range(1, EPOCHS):
        first, _, paused = trial(train_on_a_gpu, config, reports=cut)
        for start in (first[-1].checkpoint, paused):
            rest, end, _ = trial(train_on_a_gpu, config, start=start)
            assert [{k: r.metrics[k] for k in own[0]} for r in rest] == own[cut:], (cut, end)
    donor, _, _ = trial(train_on_a_gpu, config, reports=2)
    rest, _, _ = trial(train_on_a_gpu, {**config, "lr": 0.01}, start=donor[-1].checkpoint)
    assert len(rest) == EPOCHS - 2
    assert rest[0].metrics["loss"] != own[2]["loss"]


def test_checkpoints_come_as_often_as_the_experiment_says_and_with_the_last(trial):
    whole, _, _ = trial(train, CONFIGS[0], every=2)
    assert [r.checkpoint is not None for r in whole] == [False, True, False, True, True]
    _, _, paused = trial(train, CONFIGS[0], reports=3, every=2)
    rest, _, _ = trial(train, CONFIGS[0], start=paused)
    assert [r.metrics for r in rest] == [r.metrics for r in whole[3:]]


def test_the_model_of_a_checkpoint_is_read_by_name(trial):
    first, _, _ = trial(train, CONFIGS[0], reports=1)
    state = load_state(first[0].checkpoint)
    assert set(state) == {"model", "optimizer", "scheduler", "loader", "numbers", "history", "checkpointed"}
    assert state["model"]["0.weight"].shape == (8, 4)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c["schedule"])
def test_a_donors_checkpoint_does_not_bring_its_learning_rate(trial, config):
    """As population-based training does it: what the schedule has done since stays done, from the new start."""
    scale = 0.25 if config["schedule"] != "one_cycle" else 1.0  # that one has a rate of its own
    alone, _, _ = trial(train, {**config, "lr": config["lr"] * scale, "decay": 0.5})
    donor, _, _ = trial(train, config, reports=2)
    rest, _, _ = trial(train, {**config, "lr": config["lr"] * scale, "decay": 0.5}, start=donor[-1].checkpoint)
    assert len(rest) == EPOCHS - 2
    if config["schedule"] == "plateau":  # whose steps follow the losses, which differ
        assert rest[0].metrics["rates/0"] <= config["lr"] * scale
    else:
        ours = [r.metrics["rates/0"] for r in rest]
        assert ours == pytest.approx([r.metrics["rates/0"] for r in alone[2:]])
    assert rest[0].metrics["loss"] != trial(train, config)[0][2].metrics["loss"]


def test_carried():
    saved = {"lr": 0.05, "betas": (0.8, 0.999), "weight_decay": 0.1, "last_epoch": 7, "nested": {"T_max": 10}}
    then = {"lr": 0.1, "betas": (0.9, 0.999), "weight_decay": 0.1, "last_epoch": 0, "nested": {"T_max": 10}}
    now = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.2, "last_epoch": 0, "nested": {"T_max": 20, "new": 1}}
    assert carried(saved, then, now) == {
        "lr": pytest.approx(0.005),
        "betas": (0.8, 0.99),
        "weight_decay": 0.2,
        "last_epoch": 7,
        "nested": {"T_max": 20, "new": 1},
    }
    assert carried(saved, then, then) == saved
    rates = carried({"lr": torch.tensor(0.05)}, {"lr": torch.tensor(0.1)}, {"lr": torch.tensor(0.2)})
    assert rates["lr"].item() == pytest.approx(0.1)


def loop(body, count=3, **things):
    def function(config):
        with checkpointed(**things) as state:
            for epoch in state.epochs(count):
                body(state, epoch)

    return function


def twice(state, epoch):
    state.report(loss=1.0)
    state.report(loss=1.0)


def outside(config):
    with checkpointed(model=nn.Linear(1, 1)) as state:
        state.report(loss=1.0)


def after_its_block(config):
    with checkpointed(model=nn.Linear(1, 1)) as state:
        pass
    for _ in state.epochs(3):
        pass


def two_loops(config):
    with checkpointed(model=nn.Linear(1, 1)) as state:
        for _ in state.epochs(1):
            state.report(loss=1.0)
        for _ in state.epochs(1):
            state.report(loss=1.0)


WRONG = {
    "a number": (loop(twice, best=0.0), 'a float cannot be changed: hold it in a dict, as best={"value": 0.0}'),
    "an object without a state": (loop(twice, data=iter([])), "has no state to save: it needs state_dict()"),
    "our name": (loop(twice, checkpointed={}), "the name is taken"),
    "two reports of one epoch": (loop(twice, history={}), "called twice in epoch 0: report once"),
    "a report before the loop": (outside, "belongs inside: for epoch in state.epochs"),
    "after its block": (after_its_block, "after its with block: the loop belongs inside"),
    "two loops": (two_loops, "state.epochs() was called twice"),
    "no epochs": (loop(twice, count=0, history={}), "state.epochs(0): it takes how many"),
    "a share of an epoch": (loop(twice, count=2.5, history={}), "state.epochs(2.5): it takes how many"),
    "a state that only a pickle holds": (
        loop(lambda state, epoch: state.report(loss=1.0), history={"path": object()}),
        "history['path'] holds a object, which only a pickle could bring back",
    ),
}


@pytest.mark.parametrize(("function", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(trial, function, said):
    _, end, _ = trial(function)
    assert isinstance(end, Raised)
    assert said in end.summary
    assert "\n" not in end.summary


def test_a_checkpoint_of_other_things_is_refused(trial):
    def of(width, **more):
        model = nn.Linear(2, width)
        return loop(lambda state, epoch: state.report(loss=1.0), model=model, **more)

    first, _, _ = trial(of(3), reports=1)
    _, end, _ = trial(of(4), start=first[0].checkpoint)
    assert "model: its checkpoint does not fit the Linear of now" in end.summary
    _, end, _ = trial(of(3, ema={}), start=first[0].checkpoint)
    assert "the checkpoint holds model: checkpointed(model, ema) now" in end.summary


def test_persistent_workers_are_named():
    with pytest.warns(UserWarning, match="loader: persistent_workers keep random states"):
        checkpointed(loader=data(num_workers=1, persistent_workers=True))


def test_outside_of_a_trial_the_loop_runs_and_says_that_nothing_hears_it():
    heard = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with checkpointed(history={}) as state:
            for epoch in state.epochs(2):
                heard.append(epoch)
                state.report(loss=1.0)
    assert heard == [0, 1]
    assert "nothing hears it" in str(caught[0].message)


def test_milestones_tensors_and_groups_that_come_later(trial):
    def later(config):
        model, mean = nn.Linear(2, 1), torch.zeros(2)
        optimizer = torch.optim.SGD([model.weight], lr=config["lr"])
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], 0.5)
        state = checkpointed(model=model, optimizer=optimizer, schedule=schedule, mean=mean)
        for _ in state.epochs(EPOCHS):
            mean += torch.rand(2)
            optimizer.step()
            schedule.step()
            state.report(loss=mean.sum().item(), rate=optimizer.param_groups[0]["lr"])

    whole, _, _ = trial(later, {"lr": 0.1})
    first, _, _ = trial(later, {"lr": 0.1}, reports=2)
    rest, _, _ = trial(later, {"lr": 0.1}, start=first[-1].checkpoint)
    assert [r.metrics for r in rest] == [r.metrics for r in whole[2:]]
    rest, _, _ = trial(later, {"lr": 0.2}, start=first[-1].checkpoint)
    assert [r.metrics["rate"] for r in rest] == pytest.approx([2 * r.metrics["rate"] for r in whole[2:]])
    grown = [{"lr": 0.1}, {"lr": 0.3}]
    assert carried(grown, [{"lr": 0.1}], [{"lr": 0.2}]) == [{"lr": 0.2}, {"lr": 0.3}]


def test_numbers_and_arrays_of_numpys_come_back(trial):
    class Normaliser:
        def __init__(self):
            self.state = {"mean": np.zeros(2), "seen": [np.float64(0)]}

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    def function(config):
        model, own, history = nn.Linear(1, 1), Normaliser(), {"means": [], "last": np.arange(2.0)}
        optimizer = torch.optim.SGD(model.parameters(), lr=np.float64(0.1))
        state = checkpointed(optimizer=optimizer, own=own, history=history)
        for _ in state.epochs(EPOCHS):
            own.state["mean"] = own.state["mean"] + np.random.rand(2)
            history["means"].append(np.mean(own.state["mean"]))
            history["last"] = history["last"] * 2
            state.report(loss=sum(history["means"]), last=history["last"].sum())

    whole, end, _ = trial(function)
    assert len(whole) == EPOCHS, end
    first, _, _ = trial(function, reports=2)
    rest, end, _ = trial(function, start=first[-1].checkpoint)
    assert [r.metrics for r in rest] == [r.metrics for r in whole[2:]], end


def test_carried_drops_what_only_the_donor_has():
    milestones = Counter({10: 1, 20: 1})
    found = carried({"milestones": milestones}, {"milestones": milestones}, {"milestones": Counter({5: 1, 15: 1})})
    assert found == {"milestones": Counter({5: 1, 15: 1})}
    assert type(found["milestones"]) is Counter
    assert carried({"lr": 0.5}, {"lr": 1.0}, {"lr": 0.1}) == {"lr": 0.05}


def test_a_wrapped_schedule_is_one(trial):
    class Wrapped:  # as accelerate has them
        def __init__(self, scheduler):
            self.scheduler = scheduler
            self.state_dict, self.load_state_dict = scheduler.state_dict, scheduler.load_state_dict

    def function(config):
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=config["lr"])
        schedule = Wrapped(torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch))
        state = checkpointed(optimizer=optimizer, schedule=schedule)
        for _ in state.epochs(EPOCHS):
            optimizer.step()
            schedule.scheduler.step()
            state.report(loss=optimizer.param_groups[0]["lr"])

    donor, _, _ = trial(function, {"lr": 0.1}, reports=2)
    rest, _, _ = trial(function, {"lr": 0.001}, start=donor[-1].checkpoint)
    assert [r.metrics["loss"] for r in rest] == pytest.approx([0.001 * 0.5**n for n in (3, 4, 5)])


def test_a_loop_without_a_with(trial):
    def bare(config):
        model = nn.Linear(2, 1)
        state = checkpointed(model=model)
        for _ in state.epochs(3):
            nn.init.uniform_(model.weight)
            state.report(loss=model.weight.sum().item())

    whole, _, _ = trial(bare)
    first, _, _ = trial(bare, reports=1)
    rest, _, _ = trial(bare, start=first[0].checkpoint)
    assert [r.metrics for r in rest] == [r.metrics for r in whole[1:]]


def test_it_is_public():
    assert raytune_hpo.checkpointed is checkpointed
    with pytest.raises(TrialError):
        checkpointed(x=1)
