"""Lean training has the gradients of the plain one: a check for the networks of every head."""

from __future__ import annotations

from typing import Any

from ultralytics.cfg import get_cfg

from vanillayolo.nn import randomize_batchnorm, set_lean
from vanillayolo.yolo.memory import sample_batch


def assert_lean_is_plain(model: Any, live: str) -> None:
    """Compare every gradient in float64, neck and head computed twice; ``live``: a parameter whose is not 0."""
    model = model.double()
    model.args = get_cfg()
    model.bfloat16 = False
    randomize_batchnorm(model).train()
    batch = sample_batch(64, 2, 3, head=model.model[-1])
    batch["img"] = batch["img"].double()
    gradients: list[dict[str, Any]] = []
    for lean in ("off", "max"):
        set_lean(model, lean)
        model.zero_grad()
        model.loss(batch)[0].sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert gradients[0][live].abs().max() > 0
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        # parts of Ultralytics' losses are float32; a bias before BN has no gradient but rounding
        assert (gradients[1][name] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-9 * largest, name
