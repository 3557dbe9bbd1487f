from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn import tasks
from ultralytics.utils import torch_utils
from ultralytics.utils.dist import generate_ddp_file

from vanillayolo import VanillaTrainer, VanillaYOLO
from vanillayolo.errors import CheckpointError, UsageError
from vanillayolo.nn import Stage, get_negative_slope
from vanillayolo.yolo import threads
from vanillayolo.yolo.threads import State

pytestmark = pytest.mark.slow


def slopes(run: Path) -> list[float]:
    with (run / "results.csv").open() as file:
        return [float(row["metrics/negative_slope"]) for row in csv.DictReader(file)]


def slope_of(file: Path) -> float | None:
    return get_negative_slope(VanillaYOLO(file).model)


@pytest.fixture
def record() -> dict[str, list[Any]]:
    """What a training did, epoch by epoch: see :func:`watch`."""
    return {"model": [], "average": [], "best": []}


def watch(model: VanillaYOLO, record: dict[str, list[Any]]) -> None:
    def note(trainer: Any) -> None:
        record["model"].append(get_negative_slope(trainer.model))
        record["average"].append(get_negative_slope(trainer.ema.ema))

    model.add_callback("on_train_batch_end", note)


def falling_fitness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every epoch look worse than the one before."""
    original = VanillaTrainer.validate

    def validate(self: VanillaTrainer) -> Any:
        before = self.best_fitness
        metrics, _ = original(self)
        fitness = 1.0 / (1 + self.epoch)
        self.best_fitness = fitness if before is None or before < fitness else before
        return metrics, fitness

    monkeypatch.setattr(VanillaTrainer, "validate", validate)


def train(model: Path | str, tmp_path: Path, quick: dict[str, Any], **settings: Any) -> VanillaTrainer:
    detector = VanillaYOLO(model)
    detector.train(project=str(tmp_path), name="run", **{**quick, **settings})
    return detector.trainer


def test_slope_rises_then_stays_in_csv_and_plot(trained: VanillaYOLO, run: Path) -> None:
    assert slopes(run) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    trained.trainer.plot_metrics()
    assert (run / "results.png").stat().st_size > 10_000


def test_model_and_average_have_the_slope_in_every_step(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, record: dict[str, list[Any]]
) -> None:
    model = VanillaYOLO(small_yaml)
    watch(model, record)
    model.train(project=str(tmp_path), epochs=4, decay=0.5, decay_shape="cosine", **quick)
    assert record["model"] == record["average"] == pytest.approx([0, 0, 0.5, 0.5, 1, 1, 1, 1])


def test_patience_counts_from_the_first_epoch_at_slope_1(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling_fitness(monkeypatch)
    trainer = train(small_yaml, tmp_path, quick, epochs=8, decay=0.5, patience=2)
    assert trainer.epoch + 1 == 7  # four ramp epochs, the best, two without improvement
    assert slope_of(trainer.best) == 1
    assert VanillaYOLO(trainer.best).ckpt["train_metrics"]["fitness"] == pytest.approx(1 / 5)  # the first at slope 1


def test_one_epoch_is_trained_at_slope_1_and_leaves_ultralytics_as_it_was(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    before = dict(vars(tasks))
    trainer = train(small_yaml, tmp_path, quick, epochs=1)
    assert slopes(trainer.save_dir) == [1]
    assert vars(tasks) == before


def test_timed_run_reaches_slope_1_and_never_goes_back(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, record: dict[str, list[Any]]
) -> None:
    model = VanillaYOLO(small_yaml)
    watch(model, record)
    model.train(project=str(tmp_path), time=8 / 3600, decay=1.0, **quick)
    assert record["model"] == record["average"] == sorted(record["model"])
    assert record["model"][0] < 0.5
    assert slope_of(model.trainer.best) == 1


def test_without_validation_best_is_mergeable(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    assert slope_of(train(small_yaml, tmp_path, quick, epochs=3, val=False).best) == 1


def test_decay_0_turns_deep_training_off(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    assert slopes(train(small_yaml, tmp_path, quick, epochs=2, decay=0).save_dir) == [1, 1]


def test_settings_travel_in_the_checkpoint(run: Path) -> None:
    assert VanillaYOLO(run / "weights" / "best.pt").model.yaml["deep_training"]["decay"] == pytest.approx(2 / 3)


def test_bad_settings_write_nothing(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    for bad in ({"decay": 1.5}, {"decay_shape": "square"}, {"decay": "often"}, {"lean": "most"}, {"bfloat16": 16}):
        with pytest.raises(UsageError):
            VanillaYOLO(small_yaml).train(project=str(tmp_path / "runs"), epochs=1, **{**quick, **bad})
    assert not (tmp_path / "runs").exists()


# -- fine-tuning and loading


def test_finished_weights_stay_at_slope_1_unless_asked(
    run: Path, small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    best = run / "weights" / "best.pt"
    assert slopes(train(best, tmp_path / "a", quick, epochs=2).save_dir) == [1, 1]
    pairs = train(small_yaml, tmp_path / "b", quick, epochs=1, join=False).best  # joined ones have no slope to train
    assert slopes(train(pairs, tmp_path / "c", quick, epochs=2, decay=0.5).save_dir) == [0, 1]


def test_unfinished_weights_go_on_from_their_slope(run: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    half = run / "weights" / "epoch2.pt"
    assert slope_of(half) == 0.5
    got = slopes(train(half, tmp_path, quick, epochs=3).save_dir)
    assert got == pytest.approx([0.5, 0.75, 1])


def test_load_carries_the_slope(run: Path, small_yaml: Path, scenes: Path) -> None:
    half, best = (run / "weights" / name for name in ("epoch2.pt", "best.pt"))
    image = torch.rand(1, 3, 64, 64)
    for file in (half, best):
        source = VanillaYOLO(file)
        loaded = VanillaYOLO(small_yaml)
        loaded.model = type(loaded.model)(source.model.yaml, verbose=False)
        loaded.load(file)
        assert get_negative_slope(loaded.model) == slope_of(file)
        torch.testing.assert_close(loaded.model.eval()(image)[0], source.model.eval()(image)[0])


def test_unfinished_checkpoint_is_folded_not_merged(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = VanillaYOLO(run / "weights" / "epoch2.pt").model.double().eval()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    before = model(image)[0]
    model.fuse(verbose=False)
    torch.testing.assert_close(model(image)[0], before)  # the same function, in float64
    assert get_negative_slope(model) == 0.5
    assert model.is_fused()


def test_fused_network_saves_predicts_and_refuses_to_train(
    lively: Path, lively_data: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    model = VanillaYOLO(lively)
    where: dict[str, Any] = {"data": str(lively_data), "imgsz": 64, "rect": False, "plots": False, "verbose": False}
    expected = model.val(project=str(tmp_path), **where).box.map
    model.fuse()
    model.save(tmp_path / "fused.pt")
    again = VanillaYOLO(tmp_path / "fused.pt")
    assert expected > 0.1
    # The merged weights were rounded to float16 once more, as Ultralytics saves them: a few boxes change places.
    assert again.val(project=str(tmp_path), **where).box.map == pytest.approx(expected, abs=0.02)
    for merged in (model, again):
        with pytest.raises(CheckpointError, match="merged"):
            merged.train(**quick)


# -- interruptions; killed and resumed: test_kills.py


def test_out_of_memory_repeats_the_epoch_at_its_slope(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, record: dict[str, list[Any]]
) -> None:
    model = VanillaYOLO(small_yaml)
    watch(model, record)
    failed: list[int] = []

    def fail_once(trainer: Any) -> None:
        if not failed:
            failed.append(1)
            trainer.scaler.scale = lambda loss: (_ for _ in ()).throw(RuntimeError("CUDA out of memory"))
        elif len(failed) == 1:
            failed.append(2)
            del trainer.scaler.scale

    model.add_callback("on_train_batch_start", fail_once)
    model.train(project=str(tmp_path), epochs=3, decay=0.67, **quick)
    assert model.trainer.batch_size == 2
    assert record["model"] == pytest.approx([0] * 4 + [0.5] * 4 + [1] * 4)
    assert slope_of(model.trainer.best) == 1


def test_loss_that_is_no_number_recovers_at_the_slope(small_yaml: Path, quick: dict[str, Any], tmp_path: Path) -> None:
    model = VanillaYOLO(small_yaml)
    poisoned: list[int] = []

    def poison(trainer: Any) -> None:
        if trainer.epoch == 1 and not poisoned:
            poisoned.append(1)
            trainer.loss = trainer.loss * float("nan")

    model.add_callback("on_train_epoch_end", poison)
    model.train(project=str(tmp_path), epochs=4, decay=0.5, **quick)
    assert poisoned
    assert slopes(model.trainer.save_dir) == pytest.approx([0, 0.5, 1, 1])


# -- several processes and cores


def test_the_file_that_starts_several_processes_restores_trainer_and_schedule(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    overrides = {
        **quick,
        "model": str(small_yaml),
        "task": "detect",
        "epochs": 2,
        "decay": 0.5,
        "device": "cpu",
        "lean": "max",
    }
    trainer = VanillaTrainer(overrides={**overrides, "project": str(tmp_path), "name": "many"})
    script = generate_ddp_file(trainer)
    try:
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    finally:
        Path(script).unlink()
        Path(script).with_suffix(".pt").unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    assert slopes(Path(trainer.save_dir)) == [0, 1]
    assert done.stdout.count("deep training:") + done.stderr.count("deep training:") == 1  # callbacks are not doubled
    assert slope_of(Path(trainer.best)) == 1
    assert VanillaYOLO(trainer.best).model.lean == "max"


def test_the_users_threads_hold(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's one thread holds in every batch of training and validation, though Ultralytics sets its own."""
    monkeypatch.setattr(threads, "STATE", State(1, 1, 2, (0.0, 0.0, 0.0)))
    monkeypatch.setattr(torch_utils, "NUM_THREADS", 2)
    try:
        seen: list[int] = []
        model = VanillaYOLO(small_yaml)
        model.add_callback("on_train_batch_start", lambda _: seen.append(torch.get_num_threads()))
        model.add_callback("on_val_batch_start", lambda _: seen.append(torch.get_num_threads()))
        model.train(project=str(tmp_path), epochs=1, **quick)
        assert set(seen) == {1}
    finally:
        torch.set_num_threads(1)


# -- lean training


def test_lean_training_travels_through_training_and_resume(
    small_yaml: Path, quick: dict[str, Any], tmp_path: Path
) -> None:
    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    settings = {"epochs": 3, "decay": 0.34, "lean": "max", "bfloat16": True}
    model = VanillaYOLO(small_yaml)
    model.add_callback("on_model_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(tmp_path), name="run", **{**quick, **settings})
    last = tmp_path / "run" / "weights" / "last.pt"
    resumed = VanillaYOLO(last)
    resumed.train(resume=True, lean="off")  # said once, stays
    for network in (resumed.trainer.model, resumed.trainer.ema.ema, VanillaYOLO(resumed.trainer.best).model):
        assert network.yaml["lean_training"] == {"lean": "max", "bfloat16": True}
        assert (network.lean, network.bfloat16) == ("max", True)
        assert {m.lean for m in network.modules() if isinstance(m, Stage)} == {"max"}
        assert all(p.dtype == torch.float32 for p in network.float().parameters())
    again = train(resumed.trainer.best, tmp_path / "off", quick, epochs=1, lean="off", bfloat16=False)
    assert again.model.yaml["lean_training"] == {"lean": "off", "bfloat16": False}
    assert again.model.lean == "off"
