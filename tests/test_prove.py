"""The record of a file, checked again: on a file of one convolution, which takes no second."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vanillayolo import cli
from vanillayolo.deploy import Verification
from vanillayolo.deploy.equality import Equality
from vanillayolo.deploy.proof import add_proof
from vanillayolo.errors import UsageError, VerificationError
from vanillayolo.prove import digest_of, drawn, prove, seal_of

onnx = pytest.importorskip("onnx", reason="needs ONNX: pip install 'vanillayolo[export]'")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'vanillayolo[export]'")

OUTPUTS = {
    "detect": {"axes": ["image", "value", "anchor"], "holds": ["centre x", "centre y", "width", "height", "score"]},
    "classify": {"axes": ["image", "class"], "holds": ["probability"]},
    "objects": {"axes": ["image", "box", "value"], "holds": ["x1", "y1", "x2", "y2", "score", "class"]},
}


def write_onnx(path: Path, kind: str, sides: Any = 64, change: Callable[[np.ndarray], None] | None = None) -> None:
    """Write a file of one convolution that gives boxes and three scores, probabilities, or objects of one class."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(0, 0.05, (7, 3, 8, 8)).astype(np.float32)
    if change:
        change(weight)
    shape = {"detect": [0, 7, -1], "classify": [0, 7, -1], "objects": [0, 7, -1]}[kind]
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["map"], strides=[8, 8]),
        helper.make_node("Reshape", ["map", "shape"], ["rows"]),
        helper.make_node("Sigmoid", ["rows"], ["likely"]),
    ]
    last = {
        "detect": [helper.make_node("Identity", ["likely"], ["output0"])],
        "classify": [
            helper.make_node("ReduceMean", ["rows", "axis"], ["logits"], keepdims=0),
            helper.make_node("Softmax", ["logits"], ["output0"], axis=1),
        ],
        "objects": [
            helper.make_node("Slice", ["likely", "zero", "six", "one"], ["six_rows"]),
            helper.make_node("Mul", ["six_rows", "without_class"], ["scored"]),
            helper.make_node("Transpose", ["scored"], ["output0"], perm=[0, 2, 1]),
        ],
    }[kind]
    constants = {"w": weight, "shape": np.array(shape), "axis": np.array([2]), "zero": np.array([0])}
    constants |= {"six": np.array([6]), "one": np.array([1])}
    constants["without_class"] = np.array([1, 1, 1, 1, 1, 0], np.float32)[None, :, None]
    given = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        [*nodes, *last],
        "one",
        [helper.make_tensor_value_info("images", float32, [1, 3, sides, sides])],
        [helper.make_tensor_value_info("output0", float32, None)],
        given,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def proven(folder: Path, kind: str = "detect", sizes: tuple[str, ...] = ("64x64",), **changes: Any) -> Path:
    """Write such a file with its contract and its record, and return it."""
    path = folder / "best.onnx"
    side = 64 if len(sizes) == 1 else None
    write_onnx(path, kind, side or "side")
    contract = {
        "contract": 1,
        "vanillayolo": "0.1.0",
        "file": path.name,
        "sha256": digest_of(path),
        "format": "onnx",
        "input": {"name": "images", "shape": [1, 3, side, side], "layout": "NCHW", "type": "float32"},
        "outputs": [{"name": "output0", **OUTPUTS[kind]}],
        "names": {"0": "disc", "1": "square", "2": "ring"},
    }
    (folder / "best.onnx.contract.json").write_text(json.dumps(contract))
    found = {"images": 1, "boxes": 5, "matched": 5, **changes}
    result = Verification("best.onnx", "best.pt", "onnx", "float32", kind == "objects", "here")
    result.records = {size: Equality(**found) for size in sizes}
    add_proof(result, path, contract)
    result.save(path)
    return path


def edited(path: Path, change: Callable[[dict[str, Any]], None], seal: bool = False) -> None:
    """Edit a JSON file in place; ``seal``: as its writer would."""
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps({**said, "seal": seal_of(said)} if seal else said))


@pytest.mark.parametrize(("kind", "part"), [("detect", "scores"), ("classify", "probability"), ("objects", "objects")])
def test_a_good_file_is_proven(kind: str, part: str, tmp_path: Path) -> None:
    path = proven(tmp_path, kind)
    lines = prove(path).splitlines()
    assert lines[0].startswith("best.onnx: proven with onnxruntime ")
    assert any(line.strip().startswith(f"{part} at 64x64 ") for line in lines)
    (tmp_path / "best.onnx.contract.json").unlink()  # the record has it too
    prove(path)
    assert (tmp_path / "best.onnx.verify.json").stat().st_size < 12_000


def test_a_file_of_any_size_is_proven_at_each(tmp_path: Path) -> None:
    said = prove(proven(tmp_path, sizes=("64x64", "96x32")))
    assert "scores at 64x64" in said
    assert "scores at 96x32" in said


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("fault", ["two rows swapped", "1 % of the weights", "not finite"])
def test_a_runtime_that_computes_otherwise_is_told_by_the_output(
    kind: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file in the place of a machine that is wrong: all but its outputs is as the record says."""
    path = proven(tmp_path, kind)
    digest = digest_of(path)

    def change(weight: np.ndarray) -> None:
        if fault == "two rows swapped":
            weight[[4, 3]] = weight[[3, 4]]
        else:
            weight[4] *= 1.01 if fault == "1 % of the weights" else np.nan

    write_onnx(path, kind, change=change)
    monkeypatch.setattr("vanillayolo.prove.digest_of", lambda path: digest)
    with pytest.raises(VerificationError, match=r"NOT PROVEN with onnxruntime .*(scores|probability|objects) at 64x64"):
        prove(path)


def test_what_was_changed_is_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = proven(tmp_path)
    contract, record = (tmp_path / f"best.onnx.{kind}.json" for kind in ("contract", "verify"))
    kept = {p: p.read_bytes() for p in (path, contract, record)}

    def one_byte() -> None:
        content = bytearray(kept[path])
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    part = ("proof", "probes", 0, "parts", 1)

    def inner(said: dict[str, Any], *keys: Any) -> Any:
        return said if not keys else inner(said[keys[0]], *keys[1:])

    sha = "not the file that was verified"
    cases: list[tuple[Callable[[], Any], int, str]] = [
        (one_byte, 1, sha),
        (lambda: write_onnx(path, "classify"), 1, sha),
        (lambda: edited(record, lambda x: inner(x, *part).update(allowed="9")), 1, "was changed after it was written"),
        (lambda: edited(record, lambda x: x.update(doubts=["none"])), 1, "was changed after it was written"),
        (lambda: edited(record, lambda x: x.pop("proof")), 1, "was changed after it was written"),
        (
            lambda: edited(contract, lambda x: x["names"].update({"0": "b"})),
            1,
            "was changed: its names differs from the record's",
        ),
        (lambda: edited(contract, lambda x: x.pop("input")), 1, "not its file's contract"),
        (lambda: contract.write_text("[" * 10**5), 1, "not its file's contract"),
        (lambda: record.write_text("7"), 1, "not a record"),
        (lambda: record.write_text('{"verdict": "verified"}'), 2, "holds nothing to check again; 'vanillayolo verify"),
        (lambda: record.write_text('{"verdict": "not verified", "breaches": ["a"]}'), 1, "NOT VERIFIED: a"),
        (record.unlink, 2, "no record best.onnx.verify.json beside it; 'vanillayolo verify"),
        (path.unlink, 2, "no such file"),
    ]
    for change, code, told in cases:
        change()
        assert cli.main(["prove", str(path)]) == code, told
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
        for file, content in kept.items():
            file.write_bytes(content)
    assert cli.main(["prove", f"model={path}"]) == 0


def test_what_its_writer_says_otherwise_is_told(tmp_path: Path) -> None:
    path = proven(tmp_path)
    record, contract = tmp_path / "best.onnx.verify.json", tmp_path / "best.onnx.contract.json"
    for change, told in (
        (
            lambda x: x["proof"]["contract"]["input"].update(name="image"),
            "the name of an input is images, its contract",
        ),
        (
            lambda x: x["proof"]["contract"]["input"].update(shape=[1, 3, 32, 64]),
            r"the shape of an input is \[1, 3, 64",
        ),
        (lambda x: x["proof"]["contract"]["outputs"].append({"name": "output1"}), "it has 1 outputs, its contract 2"),
        (lambda x: x["proof"]["probes"][0].update(gives=[[1, 7, 9]]), r"gives \[\[1, 7, 64\]\] here, \[\[1, 7, 9\]\]"),
        (lambda x: x["proof"]["probes"][0].update(shape=[1, 3, 32, 32]), "does not run here"),
        (lambda x: x.update(doubts=["no box was found"]), "not proven: no box was found"),
    ):
        kept = record.read_text()
        contract.unlink(missing_ok=True)
        edited(record, change, seal=True)
        with pytest.raises(VerificationError, match=told) as error:
            prove(path)
        assert "\n" not in str(error.value)
        record.write_text(kept)
    edited(record, lambda x: x["proof"].update(version=2), seal=True)
    with pytest.raises(UsageError, match="by a later vanillayolo"):
        prove(path)


def test_what_cannot_be_proven_elsewhere_says_why(tmp_path: Path) -> None:
    path = tmp_path / "best.pte"
    path.write_bytes(b"")
    for format, contract, told in (
        ("executorch", {}, "executorch is compared by 'vanillayolo verify' alone"),
        ("onnx", None, "a file that does not say its classes, stride and size is compared"),
    ):
        result = Verification("best.pte", "best.pt", format, "float32", False, "here", records={"64x64": Equality()})
        add_proof(result, path, contract)
        result.save(path)
        with pytest.raises(UsageError, match=told):
            prove(path)
    wrong = Verification("best.pte", "best.pt", "onnx", "float32", False, "here", said=["it says class 0 'a', not 'b'"])
    add_proof(wrong, path, {})
    wrong.save(path)
    with pytest.raises(VerificationError, match="NOT VERIFIED: it says class 0"):
        prove(path)


#: Refuses what a machine does not have that has numpy and ONNX Runtime alone.
ALONE = """
import importlib.abc, runpy, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv[:] = {words}
sys.orig_argv[:] = [sys.executable, "-m", "vanillayolo.prove"] if {alone} else sys.orig_argv
{run}
"""
HEAVY = {"torch", "torchvision", "ultralytics", "timm", "cv2", "scipy", "matplotlib", "PIL"}
LIGHT = {"yaml", "psutil", "safetensors", "onnx"}


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False], ids=["module", "command"])
def test_it_needs_numpy_and_the_runtime_alone(alone: bool, tmp_path: Path) -> None:
    path = proven(tmp_path)
    run = (
        "runpy.run_module('vanillayolo.prove', run_name='__main__')"
        if alone
        else ("from vanillayolo.cli import main; sys.exit(main())")
    )
    words = ["prove.py", str(path)] if alone else ["vanillayolo", "prove", str(path)]
    missing = HEAVY | LIGHT if alone else HEAVY
    code = ALONE.format(missing=missing, words=words, alone=alone, run=run)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("best.onnx: proven with onnxruntime")
    path.write_bytes(path.read_bytes() + b"\0")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stderr.count("\n") == 1


def test_pictures_are_the_same_everywhere() -> None:
    """Held to numbers: another version of numpy, or another machine, has to draw the same."""
    x = drawn(3, (2, 3, 32, 48))
    assert x.shape == (2, 3, 32, 48)
    assert 0 <= x.min() < 0.3 < 0.7 < x.max() <= 1
    assert not np.array_equal(x[0], x[1])
    assert int(np.rint(x.astype(np.float64) * 255).sum()) == 1006343
