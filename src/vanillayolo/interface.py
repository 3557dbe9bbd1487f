"""``VanillaYOLO``: used as ``ultralytics.YOLO``. It alone joins what trains with what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .deploy import Collapsed, collapse, export
from .yolo.architecture import is_model_name
from .yolo.interface import VanillaModel
from .yolo.opened import open_checkpoint
from .yolo.threads import notice_choice


class VanillaYOLO(VanillaModel):
    """A YOLO11 detector with a VanillaNet backbone, or VanillaNet itself as a classifier.

    Args:
        model: a model name (``yolo11n-vanillanet``, ``vanillanet-6-cls``), an edited model YAML, a checkpoint, or an
            exported file.
        task: what the model is for; the model's own where not given.
        verbose: print the table of layers.
        weights: official ImageNet weights for a new network, a file or a name (``vanillanet_6.pth``).

    Raises:
        ModelNameError: for a name or YAML that describes no network.
        CheckpointError: for a file that is missing or damaged, or weights that do not fit.
        UsageError: for a task that is not the model's.
    """

    def export(self, **kwargs: Any) -> str:
        """Write the merged network in another format, verified; see :func:`vanillayolo.deploy.export`."""
        notice_choice()
        self._check_is_pytorch_model()
        return str(export(open_checkpoint(self), **kwargs).path)

    def collapse(self, path: str | Path | None = None, **kwargs: Any) -> Collapsed:
        """Write the merged network in stock classes; see :func:`vanillayolo.deploy.collapse`."""
        return collapse(open_checkpoint(self, "collapse takes a checkpoint (.pt)"), path, **kwargs)

    def tune(self, use_ray: bool = False, iterations: int = 10, **kwargs: Any) -> Path:
        """Search networks and trainings, starting from this model; see :func:`vanillayolo.study.tune.tune`.

        Args:
            use_ray: as Ultralytics has it: ``engine="ray"``.
            iterations: as Ultralytics has it: ``trials``.
            kwargs: keys of ``vanillayolo tune``.

        Returns:
            The folder of the search.
        """
        from .study.tune import tune

        usual = {"data": self.overrides.get("data"), "trials": iterations, "engine": "ray" if use_ray else "local"}
        given: dict[str, Any] = {**usual, **kwargs}
        model = str(self.ckpt_path or self.cfg or self.model_name)
        return tune(model.removesuffix(".yaml") if is_model_name(model) else model, **given)
