"""One training in several processes, and on two machines, one of which is lost: docs/several_machines.md's commands."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import distributed as dist

from vanillayolo import VanillaYOLO
from vanillayolo.errors import LostProcessError, UsageError
from vanillayolo.nn import get_negative_slope
from vanillayolo.nn.reparameterize import is_joined
from vanillayolo.study.protocol import compare, processes
from vanillayolo.yolo import process, several
from vanillayolo.yolo.checks import gone_on
from vanillayolo.yolo.detectors import train_detector

#: Run by each of two processes: gradients of half of the pictures, averaged, before the pairs are joined and after;
#: then a training of three epochs, two of them joined.
WORK = """
import copy, json, os, sys
from types import SimpleNamespace
import torch
from torch import distributed as dist
from ultralytics.cfg import get_cfg
from ultralytics.utils.torch_utils import ModelEMA
from vanillayolo import VanillaTrainer, VanillaYOLO
from vanillayolo.nn import get_negative_slope, randomize_batchnorm, set_negative_slope
from vanillayolo.yolo import VanillaDetectionModel
from vanillayolo.yolo.memory import sample_batch
from vanillayolo.yolo.merging import student
from vanillayolo.yolo.several import Distributed

cfg, store, data, out = sys.argv[1:]
rank = int(os.environ["RANK"])
torch.manual_seed(rank)  # each makes a network of its own: that of process 0 counts
network = randomize_batchnorm(VanillaDetectionModel(cfg, nc=3, verbose=False)).double()
network.args, network.bfloat16 = get_cfg(), False
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
trainer = VanillaTrainer.__new__(VanillaTrainer)
trainer.model = Distributed(network, device_ids=[None], find_unused_parameters=True)
trainer.ema, trainer.args, trainer.epoch = ModelEMA(network), SimpleNamespace(compile=False), 0
trainer.optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
batch = {**sample_batch(64, 4, 3), "cls": torch.arange(12.0).remainder(3)[:, None]}
batch["img"] = batch["img"].double()

def part(first, last):
    of = (batch["batch_idx"] >= first) & (batch["batch_idx"] < last)
    labels = {k: batch[k][of] for k in ("cls", "bboxes")}
    return {"img": batch["img"][first:last], "batch_idx": batch["batch_idx"][of] - first, **labels}

def tensors(x):
    if isinstance(x, torch.Tensor):
        return [x]
    return [t for v in (x.values() if isinstance(x, dict) else x) for t in tensors(v)]

def squares(model, batch):  # a sum over pictures, as the loss is where the targets weigh alike
    return sum(t.square().sum() for t in tensors(model(batch["img"])))

def loss(model, batch):
    return model(batch)[0].sum()

def gradients(model, what, *parts):
    model.zero_grad()
    model.train()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eval()  # statistics of a half are not those of the whole
    for p in parts:
        (what(model, p) * (2 if isinstance(model, Distributed) else 1)).backward()  # Ultralytics' own factor
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])

found = {}
for form in ("pairs", "joined", "pairs again"):
    if form == "joined":
        for model in (network, trainer.ema.ema):
            set_negative_slope(model, 1.0)
            if rank:  # what a process has seen of the data differs
                for m in model.modules():
                    if isinstance(m, torch.nn.BatchNorm2d):
                        m.running_var.mul_(1.5)
        trainer.join()
    elif form == "pairs again":  # as after a loss that is no number
        trainer._joining.undo()
        trainer._parameters_changed()
    set_negative_slope(network, 1.0 if form == "joined" else 0.3)
    plain = copy.deepcopy(network)
    halves, whole = (part(0, 2), part(2, 4)), part(0, 4)
    compared = {"squares": (squares, (whole,)), "loss": (loss, halves), "whole loss": (loss, (whole,))}
    for name, (what, reference) in compared.items():
        plain.criterion = network.criterion = None
        got, want = gradients(trainer.model, what, halves[rank]), gradients(plain, what, *reference)
        found[f"{form}: {name}"] = float((got - want).norm() / want.norm())
    trainer.optimizer.step()
    states, both = [None, None], (network, trainer.ema.ema)
    dist.all_gather_object(states, [t.double().sum().item() for m in both for t in m.parameters()])
    assert states[0] == states[1], "the processes' networks, or averages, differ"
    found[f"{form}: parameters"] = sum(1 for _ in network.parameters())

seen = []  # of every step: epoch, slope, pictures, sum of the parameters

class Watching(VanillaTrainer):
    def preprocess_batch(self, batch):
        network = student(self.model)
        parameters = sum(p.double().sum().item() for p in network.parameters())
        seen.append((self.epoch, get_negative_slope(network), sorted(batch["im_file"]), parameters))
        return super().preprocess_batch(batch)

settings = {"imgsz": 64, "batch": 4, "plots": False, "mosaic": 0.0, "optimizer": "AdamW", "warmup_epochs": 0}
settings |= {"val": False, "epochs": 3, "decay": 0.4}
where = {"data": data, "project": os.path.dirname(out), "name": "run"}
VanillaYOLO(cfg).train(trainer=Watching, **where, **settings)
steps = [None, None]
dist.all_gather_object(steps, seen)
if rank == 0:
    json.dump({"gradients": found, "steps": steps}, open(out, "w"))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_are_as_one(small_yaml: Path, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = [sys.executable, "-c", WORK, str(small_yaml), str(tmp_path / "store"), str(scenes), str(out)]
    environments = ({**os.environ, "RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": "2"} for r in (0, 1))
    running = [subprocess.Popen(words, env=env) for env in environments]
    assert [process.wait(timeout=600) for process in running] == [0, 0]
    record = json.loads(out.read_text())
    found, (first, second) = record["gradients"], record["steps"]
    for form in ("pairs", "joined", "pairs again"):
        assert found[f"{form}: squares"] < 1e-8  # float64, sums in another order
        assert found[f"{form}: loss"] < 1e-8  # that of both halves, each over its own targets
        assert 0 < found[f"{form}: whole loss"] < 0.5  # which weighs the targets of all alike: another mean
    assert found["joined: parameters"] < found["pairs: parameters"] == found["pairs again: parameters"]

    assert [step[:2] for step in first] == [[0, 0], [0, 0], [1, 1], [1, 1], [2, 1], [2, 1]]
    for one, other in zip(first, second, strict=True):
        assert one[:2] == other[:2]
        assert one[3] == other[3]  # the same network, bit by bit
    for epoch in range(3):
        read = [picture for step in (*first, *second) if step[0] == epoch for picture in step[2]]
        assert len(read) == len(set(read)) == 8  # each picture once, by one of them
    assert is_joined(VanillaYOLO(tmp_path / "run" / "weights" / "best.pt").model)


def test_what_differs_between_processes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"batch": "8", "decay": "0.5"}
    several.check_same(facts)
    monkeypatch.setattr(several, "from_first", lambda value: {**value, "decay": "0.4"})
    with pytest.raises(UsageError, match=r"^decay='0\.5': process 0 has '0\.4'; give every machine the same command"):
        several.check_same(facts)


def test_a_study_is_for_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    for name, value in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 2)):
        monkeypatch.setattr(process, name, value)
    process.check_ranks("train")  # a launcher's
    with pytest.raises(UsageError, match=r"^compare: the environment has WORLD_SIZE=2"):
        compare("yolo11n", "none.yaml", folder=tmp_path / "study")
    with pytest.raises(UsageError, match=r"^a study: the environment has WORLD_SIZE=2"):
        train_detector("yolo11n", "none.yaml", tmp_path / "run", {})
    assert not list(tmp_path.iterdir())
    several_gpus = {"device": "0,1"}, {"device": [0, 1]}
    assert [processes(settings) for settings in several_gpus] == [{"processes": 2}] * 2  # of another protocol
    assert processes({"device": 0}) == processes({}) == {}


def test_resume_auto_begins_where_there_is_no_run_and_needs_its_name(tmp_path: Path) -> None:
    settings = {"resume": "auto", "project": str(tmp_path), "name": "run", "data": "my.yaml", "lr0": 0.01, "batch": 4}
    assert gone_on("yolo11n-vanillanet", "detect", settings, VanillaYOLO) == (
        "yolo11n-vanillanet",
        {**settings, "exist_ok": True, "resume": False},
    )
    with pytest.raises(UsageError, match=r"^resume=auto: give name="):
        gone_on("yolo11n-vanillanet", None, {"resume": "auto"}, VanillaYOLO)


def as_one_of_two(rank: int, said: Path) -> None:
    """Meet the other once after it was silent for longer than a process waits in a step; then it is silent for good."""
    several.RANK = rank
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(PORT + 1000), "WORLD_SIZE": "2", "RANK": str(rank)}
    trainer = several.SeveralMixin.__new__(several.SeveralMixin)
    trainer.device = torch.device("cpu")
    trainer._setup_ddp()
    group: Any = dist.distributed_c10d._get_default_group()
    assert group._get_backend(trainer.device).options._timeout == several.patience()
    if rank:
        time.sleep(2)
        dist.barrier()
        time.sleep(600)
    with several.patient():
        dist.barrier()
    try:
        with trainer._errors_told():
            dist.barrier()
    except LostProcessError as error:
        said.write_text(str(error))
    os._exit(0)


@pytest.mark.slow  # two processes, which fork: they import nothing
def test_a_process_that_is_silent_is_given_up_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANILLAYOLO_TIMEOUT", "1")
    fork = multiprocessing.get_context("fork").Process
    two = [fork(target=as_one_of_two, args=(rank, tmp_path / "said")) for rank in (0, 1)]
    for one in two:
        one.start()
    two[0].join(60)  # three hours, and ten minutes, where a limit does not reach gloo
    for one in two:
        one.kill()
    assert "ended, or its machine does not answer" in (tmp_path / "said").read_text()
    monkeypatch.setenv("VANILLAYOLO_TIMEOUT", "1h")
    with pytest.raises(UsageError, match=r"^VANILLAYOLO_TIMEOUT='1h': give whole seconds"):
        several.patience()


# -- two machines

#: What the command trains: slope 1, and joined, from the third epoch on.
COMMAND = ["imgsz=64", "batch=4", "epochs=6", "decay=0.4", "plots=False", "optimizer=AdamW", "lr0=0.002", "workers=0"]
PORT = 29_677 + os.getpid() % 1000


@pytest.fixture
def machines() -> Iterator[list[list[str]]]:
    """Words that run a command on one of two machines: network namespaces with a cable, else this one twice."""
    names = [f"vy{os.getpid()}{end}" for end in "ab"]
    ip = shutil.which("ip")
    made = ip is not None and os.geteuid() == 0
    for number, name in enumerate(names if made else ()):
        made &= not subprocess.run([str(ip), "netns", "add", name], capture_output=True).returncode
        if number and made:
            cable = ["link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", name]
            made &= not subprocess.run([str(ip), *cable], capture_output=True).returncode
    if made:
        for number, name in enumerate(names):
            for words in (["addr", "add", f"10.77.0.{number + 1}/24", "dev", "cable"], ["link", "set", "cable", "up"]):
                subprocess.run([str(ip), "-n", name, *words], check=True)
            subprocess.run([str(ip), "-n", name, "link", "set", "lo", "up"], check=True)
        yield [[str(ip), "netns", "exec", name] for name in names]
    else:
        yield [[], []]
    for name in names if ip else ():
        subprocess.run([str(ip), "netns", "del", name], capture_output=True)


def agent(number: int, inside: list[str], log: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start torchrun on a machine, with one process of a training that may go on with fewer machines."""
    host, own = ("10.77.0.1", f"10.77.0.{number + 1}") if inside else ("127.0.0.1", "127.0.0.1")
    conf = f"is_host={1 - number},last_call_timeout=10,keep_alive_interval=1,keep_alive_max_attempt=3"
    command = [
        *(*inside, sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1"),
        *("--max-restarts=3", "--rdzv-backend=c10d", f"--rdzv-endpoint={host}:{PORT}", f"--rdzv-conf={conf}"),
        *(f"--local-addr={own}", "--rdzv-id=test", "-m", "vanillayolo", "train", *words, *COMMAND),
    ]
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "cable" if inside else "lo"}
    return subprocess.Popen(command, env=env, stdout=log.open("wb"), stderr=subprocess.STDOUT)


def lose(started: subprocess.Popen[bytes]) -> None:
    """Kill a machine: torchrun, and what it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        there = psutil.Process(started.pid)
        for process in (*there.children(recursive=True), there):
            process.kill()
    started.wait()


def wait_for(what: Any, seconds: float = 600) -> None:
    """Wait until ``what()`` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_machine_is_lost_and_the_training_goes_on(
    machines: list[list[str]], small_yaml: Path, scenes: Path, tmp_path: Path
) -> None:
    words = [f"model={small_yaml}", f"data={scenes}", f"project={tmp_path}", "name=run", "resume=auto"]
    run, logs = tmp_path / "run", [tmp_path / f"{number}.log" for number in (0, 1)]
    results = run / "results.csv"
    agents = [
        agent(number, inside, log, *words) for number, (inside, log) in enumerate(zip(machines, logs, strict=True))
    ]
    try:
        wait_for(lambda: results.exists() and len(results.read_text().splitlines()) > 3)  # joined, in two processes
        lose(agents[1])
        assert agents[0].wait(timeout=600) == 0, logs[0].read_text()[-3000:]
    finally:
        for process in agents:
            lose(process)
    said = logs[0].read_text() + logs[1].read_text()
    assert said.count("memory:") == 2  # each process 0 says it
    assert said.index("batch 2 takes") < said.index("batch 4 takes")  # of four pictures each machine two; one all
    assert "Resuming training" in said
    assert "another process of this training ended, or its machine" in said
    with results.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [float(row["metrics/negative_slope"]) for row in rows] == [0, 0.5, 1, 1, 1, 1]
    assert sorted(p.name for p in run.rglob("*") if p.is_file()) == ["args.yaml", "best.pt", "last.pt", "results.csv"]
    best = VanillaYOLO(run / "weights" / "best.pt")
    assert is_joined(best.model)
    assert get_negative_slope(best.model) == 1
