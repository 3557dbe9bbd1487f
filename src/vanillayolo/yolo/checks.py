"""What is asked before a verb of ``VanillaYOLO`` writes anything: networks, settings, data, places, in this order.

Each of :func:`checked_train`, :func:`checked_val` and :func:`checked_predict` returns the verb's keyword arguments as
Ultralytics takes them. ``model`` is the interface; it is not imported here, since it stands on this module.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.utils import RANK, YAML
from ultralytics.utils.torch_utils import select_device

from vanillayolo.errors import CheckpointError, DataError, UsageError
from vanillayolo.nn import is_merged

from .arguments import (
    check_classes,
    check_device,
    check_quantize,
    check_rows,
    check_run_folder,
    check_tracker,
    check_training,
    check_verb,
    classes_of,
    named_settings,
)
from .checkpoints import (
    can_resume,
    check_channels,
    check_class_count,
    check_finite,
    check_state,
    check_training_form,
    check_weights,
    is_undamaged,
    newest_checkpoint,
)
from .datasets import task_data
from .distillation import check_teacher
from .files import check_runs
from .kinds import KINDS
from .merging import student
from .own_weights import can_start, check_depth, is_own, packaged_weights, read_weights
from .presets import with_preset
from .pretrained import find_weights, fit_yaml, load_pretrained
from .process import check_ranks
from .quantized_training import asks, checked_quantized, is_trained_rounded
from .saving import finish_run
from .sections import CLASSIFY_KEYS, TRAIN_KEYS, check_form
from .sources import check_source
from .tasks import TASKS

#: Endings of files that ``pretrained`` may name.
STARTS = {".pt", ".safetensors"}
#: Settings that a run may go on with otherwise than it began, on other machines.
OF_MACHINES = {"data", "device", "batch", "workers", "cache"}
#: Our keys of ``train``, by task.
TASK_KEYS = {**dict.fromkeys(TASKS, TRAIN_KEYS), "classify": (*CLASSIFY_KEYS, "preset")}


def checked_train(model: Any, trainer: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a training.

    Raises:
        UsageError: for a key or value that does not exist, or does not suit the network.
        DataError: for a dataset that cannot be trained on.
        CheckpointError: for a network, or weights, that no training can start from.
    """
    if not isinstance(model.model, nn.Module):
        raise CheckpointError(f"{model.model_name}: an exported file does not train; give the checkpoint (.pt).")
    network, name = student(model.model), str(model.model_name)  # an interrupted distillation has its teacher around it
    resumes = bool(kwargs.get("resume"))
    rounds = is_trained_rounded((model.ckpt or {}).get("train_args") or {}) if resumes else asks(kwargs)
    if not rounds:
        check_training_form(network, name)
    check_finite(network, name)
    check_form(network, kwargs.get("decay"))
    check_verb("train", {"trainer": trainer, **kwargs}, TASK_KEYS[model.task])
    check_ranks("train", kwargs.get("device"))
    if rounds and not resumes:
        kwargs = checked_quantized(model, network, kwargs)
    if model.task == "classify" and (preset := kwargs.pop("preset", None)) and not resumes:
        kwargs = with_preset(str(preset), network.yaml.get("family", {}).get("variant"), kwargs)
    check_task(model, kwargs)
    choose_weights(model, network, kwargs)
    check_starting_weights(model, network, kwargs)
    check_training(network, name, kwargs)
    if resumes:
        kwargs |= resumed(model, kwargs)
    args = (model.ckpt or {}).get("train_args") or {}
    if teacher := (args if resumes else kwargs).get("distill_model"):
        check_teacher(teacher, network)
    if isinstance(kwargs.get("data"), (list, tuple)):
        kwargs["data"] = [task_data(model.task, data) for data in kwargs["data"]]
    elif not resumes:
        kwargs["data"] = task_data(model.task, kwargs.get("data") or data_of_file(model, kwargs))
    if (count := classes_of(kwargs.get("data"))) is not None:
        check_classes(kwargs.get("classes"), count)
    if not resumes:  # that stays in its own folder
        check_run_folder("train", model.task, kwargs)
    if rounds and not resumes:
        for data in kwargs["data"] if isinstance(kwargs["data"], list) else [kwargs["data"]]:
            check_class_count(network, data, kwargs, "quantize=8")
    return kwargs


def checked_val(model: Any, validator: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a validation."""
    check_verb("val", {"validator": validator, **kwargs})
    check_network(model, kwargs)
    check_ranks("val")
    data = kwargs.get("data") or model.overrides.get("data") or data_of_file(model, kwargs)
    kwargs["data"] = task_data(model.task, data, (kwargs.get("split") or "val",), background=True)
    if isinstance(model.model, nn.Module):
        check_channels(student(model.model), kwargs["data"], "val")
    check_opens(model, kwargs)
    check_run_folder("val", model.task, kwargs)
    return kwargs


def check_predict(model: Any, source: Any, kwargs: dict[str, Any]) -> None:
    """Raise unless a prediction can begin; ``kwargs`` are all of its keyword arguments but the source."""
    check_verb("predict", kwargs)
    check_network(model, kwargs)
    if kwargs.get("mode") == "track" and not TASKS[model.task].finds_boxes:
        raise UsageError(f"track model={model.model_name}: is there to {model.task}; give a detector, or use predict.")
    if source is not None:
        check_source(source)
    check_tracker(kwargs.get("tracker"), isinstance(model.model, nn.Module))
    check_opens(model, kwargs)
    if any(kwargs.get(key) for key in ("save", "save_txt", "save_crop", "save_frames", "visualize")):
        check_run_folder("predict", model.task, kwargs)


def check_task(model: Any, kwargs: dict[str, Any]) -> None:
    """Raise UsageError for a task that is not the network's."""
    if kwargs.get("task") not in (None, model.task):
        raise UsageError(f"task={kwargs['task']}: {model.model_name} is made for task={model.task}; omit task.")


def check_network(model: Any, kwargs: dict[str, Any]) -> None:
    """Raise UsageError for a task, classes or rows that the network at hand has not."""
    check_task(model, kwargs)
    if isinstance(model.model, nn.Module):
        check_device(kwargs.get("device", named_settings(kwargs).get("device")))
        check_rows(student(model.model), kwargs)


def check_opens(model: Any, kwargs: dict[str, Any]) -> None:
    """Raise CheckpointError for an exported file that its library does not open and run, or that predicts nothing."""
    if isinstance(model.model, nn.Module) or model.predictor is not None:
        return
    device = select_device(kwargs.get("device"), verbose=False)
    check_runs(str(model.model), str(model.model_name), model.task, device, kwargs.get("imgsz"))


def choose_weights(model: Any, network: Any, kwargs: dict[str, Any]) -> None:
    """Let a new network start from the weights that come with the package, or from a file of such.

    ``pretrained=False`` starts from noise, and so does a network that nothing of the package's fits, or that is to be
    trained deep (``decay``) where the package's have one convolution in the place of each pair. A ``.safetensors`` file
    is what ``weights`` names.
    """
    if kwargs.get("resume") or kwargs.get("weights") or not TASKS[model.task].finds_boxes:
        return
    default = named_settings(kwargs).get("pretrained", model.overrides.get("pretrained", True))
    pretrained = kwargs.get("pretrained", default)
    if isinstance(pretrained, (str, Path)) and Path(pretrained).suffix == ".safetensors":
        kwargs |= {"weights": str(pretrained), "pretrained": True}
    elif pretrained is True and not model.ckpt:
        file = packaged_weights(network.yaml)
        if file and can_start(network, file, deep=bool(kwargs.get("decay"))):
            kwargs["weights"] = str(file)


def check_start(pretrained: str | Path) -> None:
    """Raise UsageError for a file that holds no weights to start from, by its ending."""
    if Path(pretrained).suffix not in STARTS:
        raise UsageError(f"pretrained={pretrained}: give a checkpoint (.pt), weights (.safetensors), true or false.")


def check_starting_weights(model: Any, network: Any, kwargs: dict[str, Any]) -> None:
    """Raise unless what ``weights`` and ``pretrained`` name fits the network, and is the only one to start from.

    Files of weights are loaded into a network that is thrown away.
    """
    weights, pretrained = kwargs.get("weights"), kwargs.get("pretrained")
    named = isinstance(pretrained, (str, Path))
    if isinstance(pretrained, (str, Path)):
        check_start(pretrained)
    if weights and (model.ckpt or named):
        raise UsageError(f"weights={weights}: {model.model_name} has weights already; omit one of them.")
    if weights and not kwargs.get("resume"):
        file = find_weights(weights)
        if is_own(file):
            check_depth(read_weights(file)[0], kwargs.get("decay"), file)
        load_pretrained(model.task_map[model.task]["model"](fit_yaml(network.yaml, file), verbose=False), file)
    if named:
        check_weights(model.opened(pretrained).model, f"pretrained={pretrained}")


def resumable(given: Path, opened: Callable[[Path], Any]) -> tuple[Path, dict[str, Any]]:
    """Return the newest whole checkpoint of the run that a file or folder is of (or itself), and what it holds.

    Args:
        given: the file or folder.
        opened: opens a checkpoint.
    """
    return newest_checkpoint(given, lambda path: opened(path).ckpt or {})


def gone_on(
    model: str, task: str | None, settings: dict[str, Any], opened: Callable[[str | Path], Any]
) -> tuple[str, dict[str, Any]]:
    """Return model and settings that ``resume=auto`` stands for: those of the run of this name, or of its beginning.

    So a launcher may start a command again and again, on what machines are left. No settings: the run has ended.
    """
    if not settings.get("name"):
        raise UsageError("resume=auto: give name=, by which the run is found again.")
    anew = {**settings, "exist_ok": True, "resume": False}
    check_verb("train", anew, TASK_KEYS["classify"])  # the most that there are
    folder = check_run_folder("train", task or str(opened(model).task), anew)
    if not any(is_undamaged(path) for path in folder.glob("weights/*.pt")):
        return model, anew
    last, ckpt = resumable(folder, opened)
    if can_resume(ckpt):
        return str(last), {**{key: settings[key] for key in OF_MACHINES & settings.keys()}, "resume": True}
    if RANK in {-1, 0}:
        finish_run(last, ckpt)
        print(f"{folder}: its training has ended")
    return model, {}


def resumed(model: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return checkpoint and data from which a run goes on: Ultralytics would take another run where there is none.

    Raises:
        CheckpointError: when there is nothing to resume.
        DataError: when the data are gone, cannot be trained on, or have other classes than the checkpoint.
    """
    name = str(model.model_name if kwargs["resume"] is True else kwargs["resume"])
    is_run = name.endswith(".pt") or Path(name).is_dir()
    path, ckpt = resumable(Path(name), model.opened) if is_run else (None, {})
    check_state(ckpt, name, KINDS)
    trained = student(ckpt.get("ema") or ckpt.get("model") or model.model)
    check_finite(trained, str(path or name))
    if path is None or not can_resume(ckpt):
        ended = path is not None and finish_run(path, ckpt)
        reason = "its training has ended" if ended else "give last.pt of an interrupted run"
        raise CheckpointError(f"{name}: nothing to resume; {reason}; to start anew from its weights, omit resume.")
    check_quantize(ckpt["train_args"].get("quantize"))
    check_suits(str(path), ckpt["train_args"], trained)
    if kwargs.get("device") is None:
        try:
            check_device(ckpt["train_args"].get("device"))
        except UsageError as error:
            raise UsageError(f"{path} was trained with {str(error).rstrip('.')}; give one as device=.") from error
    given = kwargs.get("data")
    if not (known := given or ckpt["train_args"].get("data")):
        raise DataError(f"resume: {path} does not name its data; give data=.")
    try:
        data = task_data(model.task, known)
    except DataError as error:
        hint = "" if given else "; where the run's data have moved, give data=."
        raise DataError(f"resume: {error}{hint}") from error
    check_class_count(trained, data, ckpt["train_args"])
    rounding = {"quantize": 8} if is_trained_rounded(ckpt["train_args"]) else {}
    return {"resume": str(path), "data": data, **rounding}


def check_suits(path: str, args: dict[str, Any], trained: Any) -> None:
    """Raise CheckpointError where the arguments of a training that goes on were edited and do not suit its network."""
    frozen, rows = args.get("freeze"), len(trained.model)
    if isinstance(frozen, int) and frozen >= rows:  # a list holds what the trainer itself made of it
        edited = f"freeze={frozen}, of {rows} rows"
    elif is_trained_rounded(args) and not is_merged(trained):
        edited = "quantize=8, of a network that is not merged"
    else:
        return
    raise CheckpointError(
        f"{path}: its training state was changed ({edited}); resume from another checkpoint of the run, or omit resume."
    )


def data_of_file(model: Any, kwargs: dict[str, Any]) -> Any:
    """Return the data that a file of settings (``cfg``) names.

    Raises:
        DataError: when it names none.
    """
    data = YAML.load(kwargs["cfg"]).get("data") if kwargs.get("cfg") else None
    if not data:
        words = {"classify": "FOLDER (train/CLASS/*.jpg, val/CLASS/*.jpg)"}
        what = words.get(model.task, "FILE.yaml (YOLO or COCO layout)")
        raise DataError(f"data is missing: give data={what}.")
    return data
