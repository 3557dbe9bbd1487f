"""The candidates of a search: drawn, predicted, trained and timed, each in a folder of its own, noted in a study.

Optuna's study lies in a file of the folder. What a killed search had begun is taken up by the next call, its training
from its last checkpoint; what had ended stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vanillayolo.atomic import write_whole
from vanillayolo.errors import ModelNameError, UsageError, one_line
from vanillayolo.yolo.architecture import dump_yaml
from vanillayolo.yolo.detectors import network, open_detector
from vanillayolo.yolo.inference import trace_onnx
from vanillayolo.yolo.model import fold_stock

from .halving import Ended, Halving, reason_ended
from .latency import latency as time_files
from .protocol import run_one
from .records import Record, read_record, write_record
from .search_space import NETWORK, Space, allowed_keys, candidate
from .stage_costs import StageCosts

#: Networks drawn for each that is trained, at most, where most are predicted above the latency that is asked for.
DRAWS = 50


@dataclass
class Search:
    """What all candidates share.

    Attributes:
        root: the folder.
        model: name, YAML file or checkpoint that the search begins with.
        data: checked data YAML.
        space: what is searched.
        network: keys of the network that the user fixed.
        training: settings of every training.
        seed: of the draws and of every training.
        backend: a key of ``vanillayolo.study.latency.BACKENDS``.
        rounds: of a timing.
        limit: milliseconds that a network may take; None for any.
        asha: end poor candidates early.
    """

    root: Path
    model: str
    data: str
    space: Space
    network: dict[str, Any]
    training: dict[str, Any]
    seed: int
    backend: str
    rounds: int
    limit: float | None
    asha: bool = False
    costs: StageCosts | None = None

    def folder(self, number: int) -> Path:
        """Return the folder of a candidate."""
        return self.root / f"trial{number:03}"

    def write_model(self, number: int, values: Mapping[str, Any]) -> str:
        """Write a candidate's YAML and return its path; a checkpoint, or a network of others', is the candidate."""
        if not allowed_keys(self.model):
            return self.model
        path = self.folder(number) / "model.yaml"
        return str(write_whole(path, dump_yaml(candidate(self.model, {**self.network, **values}))))

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a candidate's settings of training."""
        return {**self.training, **{key: value for key, value in values.items() if key not in NETWORK}}

    def predict(self, model: str) -> float:
        """Return the milliseconds that a network will take."""
        if self.costs is None:
            base = self.model
            if self.network:
                text = dump_yaml(candidate(self.model, self.network))
                base = str(write_whole(self.root / "base-model.yaml", text))
            self.costs = StageCosts(self.root / "stages.json", self.backend, self.training["imgsz"], base)
        return self.costs.predict(model)

    def train(self, number: int, model: str, values: Mapping[str, Any]) -> Record:
        """Train a candidate, or go on with it, and return its record; one that was trained to its end has one.

        Raises:
            Ended: where it is too poor to be trained to its end.
        """
        folder, settings = self.folder(number), self.settings(values)
        path = folder / "record.json"
        if reason := reason_ended(folder):
            raise Ended(reason)
        if not path.exists():
            halving = Halving(folder, settings["epochs"]) if self.asha else None
            write_record(path, run_one(model, self.seed, self.data, folder, settings, halving))
        return read_record(path)

    def time(self, number: int) -> float:
        """Return the milliseconds that what ships of a candidate takes; measured once."""
        path = self.folder(number) / "record.json"
        record = read_record(path)
        if "latency" not in record:
            detector = network(open_detector(self.folder(number) / record["shipped"])).float().eval()
            file = trace_onnx(fold_stock(detector), path.with_name("shipped.onnx"), self.training["imgsz"])
            timed = time_files({"it": file}, [self.backend], self.training["imgsz"], self.rounds)
            record["latency"] = timed["milliseconds"][self.backend]["it"]
            write_record(path, record)
        return float(record["latency"]["median"])


def open_study(root: Path) -> Any:
    """Return the folder's study, made where there is none: mAP50-95 up, milliseconds down."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = str(root / "study.db")  # by a function: in an address a name with ? or % would be another file
    storage = optuna.storages.RDBStorage(
        "sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(file, check_same_thread=False)}
    )
    return optuna.create_study(
        storage=storage, study_name="tune", directions=["maximize", "minimize"], load_if_exists=True
    )


def is_fast(search: Search, study: Any, trial: Any, model: str) -> bool:
    """Return whether a candidate is predicted within the latency; one that is not has ended."""
    if search.limit is None:
        return True
    if (predicted := trial.user_attrs.get("predicted")) is None:
        trial.set_user_attr("predicted", predicted := search.predict(model))
    if predicted > search.limit:
        end(study, trial, "PRUNED", f"predicted {predicted:.1f} ms, not trained")
    return bool(predicted <= search.limit)


def end(study: Any, trial: Any, state: str, told: str, values: list[float] | None = None, **noted: Any) -> None:
    """Note what became of a candidate, by Optuna's word for it, and say it."""
    from optuna.trial import TrialState

    for key, value in noted.items():
        trial.set_user_attr(key, value)
    study.tell(trial, values, TrialState[state])
    print(f"trial {trial.number}: {told}", flush=True)


@contextmanager
def failures_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Let a candidate whose training cannot be, or is not worth it, end by itself, and not the search."""
    try:
        yield
    except (torch.OutOfMemoryError, Ended) as error:
        tell(one_line(error))
    except RuntimeError as error:
        if "NaN" not in str(error):  # Ultralytics gives up after three epochs of them
            raise
        tell(one_line(error))


def unfinished(study: Any) -> list[Any]:
    """Return the candidates that were begun, as they can be gone on with."""
    from optuna.trial import Trial, TrialState

    return [Trial(study, trial._trial_id) for trial in study.get_trials(states=(TrialState.RUNNING,))]


def trained(study: Any) -> int:
    """Return how many candidates have ended, those left out that were never trained."""
    ended = [trial for trial in study.get_trials() if trial.state.is_finished()]
    return sum(trial.state.name != "PRUNED" or "reason" in trial.user_attrs for trial in ended)


def candidates(search: Search, study: Any, count: int) -> Iterator[tuple[Any, str]]:
    """Yield candidates to train and their models, begun ones first, as long as fewer than ``count`` have been.

    Raises:
        UsageError: where none is fast enough.
    """
    from optuna.samplers import TPESampler

    begun, given = unfinished(study), 0
    while begun or trained(study) + given < count:
        if begun:
            trial = begun.pop(0)
        else:  # a draw hangs on what has ended alone, whether the process that drew before lives or not
            study.sampler = TPESampler(seed=search.seed + len(study.trials))
            trial = study.ask(search.space)
        try:
            if trial.params.keys() != search.space.keys():
                end(study, trial, "FAIL", "killed while it was drawn", reason="killed while it was drawn")
            elif is_fast(search, study, trial, model := search.write_model(trial.number, trial.params)):
                yield trial, model
                given = len(unfinished(study)) - len(begun)
        except ModelNameError as error:
            end(study, trial, "FAIL", one_line(error), reason=one_line(error))
        if len(study.trials) > DRAWS * count:
            break
    if not trained(study) + given:
        fastest = min(trial.user_attrs.get("predicted", float("inf")) for trial in study.trials)
        raise UsageError(
            f"latency={search.limit:g}ms: none of {len(study.trials)} networks is predicted below it, the fastest "
            f"takes {fastest:.3g} ms; give more, or a space= of smaller ones."
        )


def run_here(search: Search, study: Any, count: int) -> None:
    """Train one candidate after the other in this process."""
    for trial, model in candidates(search, study, count):
        reasons: list[str] = []
        with failures_told(reasons.append):
            search.train(trial.number, model, trial.params)
            finish(search, study, trial)
        for reason in reasons:
            give_up(search, study, trial, reason)


def give_up(search: Search, study: Any, trial: Any, reason: str) -> None:
    """Note why a candidate was not trained to its end: a failure, or a poor start."""
    poor = reason_ended(search.folder(trial.number))
    end(study, trial, "PRUNED" if poor else "FAIL", reason, reason=reason)


def finish(search: Search, study: Any, trial: Any) -> None:
    """Time a candidate that was trained to its end, and note both figures."""
    accuracy = read_record(search.folder(trial.number) / "record.json")["val"]["map50_95"]
    milliseconds = search.time(trial.number)
    end(study, trial, "COMPLETE", f"mAP50-95 {accuracy:.3f}, {milliseconds:.1f} ms", [accuracy, milliseconds])
