from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ultralytics.utils import SETTINGS

from vanillayolo import cli
from vanillayolo.errors import WriteError


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_help_lists_every_command_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name, function in cli.COMMANDS.items():
        assert f"  {name}" in out
        assert (function.__doc__ or "").splitlines()[0] in out


def test_no_words_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[:2] == run(capsys, "help")[:2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "did you mean train"),
        (["info", "model=yolo11n-vanilanet"], "yolo11n-vanillanet"),
        (["info", "mdoel=yolo11n-vanillanet"], "did you mean model"),
        (["info", "yolo11n-vanillanet"], "is not key=value"),
        (["info", "model=a", "model=b"], "given twice"),
        (["info", "model=yolo11n-vanillanet", "imgsz=big"], "whole number"),
        (["collapse"], "model= is missing"),
        (["collapse", "model=nowhere.pt"], "no such file"),
        (["train", "epohcs=3"], "did you mean epochs"),
        (["train", "epochs=3"], "data is missing"),
        (["train", "data=nowhere.yaml"], "nowhere.yaml"),
        (["train", "data=nowhere.yaml", "imgsz=7"], "from 32"),
        (["train", "data=nowhere.yaml", "decay=2"], "0 to 1"),
        (["train", "data=nowhere.yaml", "decay_shape=square"], "linear, cosine"),
        (["yaml", "path=nowhere/my.yaml"], "folder 'nowhere' does not exist"),
        (["yaml", "model=best.pt"], "a checkpoint; give a name or a YAML"),
        (["cfg", "foo=1"], "it takes none"),
        (["completion"], "give one shell, bash or zsh"),
        (["completion", "fish"], "is not key=value"),
        (["demo", "epochs=0"], "epochs=0"),
        (["demo", "model=yolo11n"], "'yolo11n'"),
        (["demo", "epohcs=3"], "did you mean epochs"),
        (["predict", "model=yolo11n-vanillanet", "source="], "source is missing"),
        (["imgsz=64"], "no command is given"),
        (["info", "compare"], "two commands"),
        (["predict", "model", "yolo11n-vanillanet"], "write model=VALUE"),
        (["segment", "train", "data=nowhere.yaml"], "nowhere.yaml does not exist"),
        (["semantic", "train", "data=nowhere.yaml"], "task='semantic'"),
        (["detect", "classify", "val", "model=a"], "given twice"),
        (["train", "cfg=nowhere.yaml"], "no such file"),
        (["settings", "runs_dri=here"], "did you mean runs_dir"),
        (["settings", "sync=perhaps"], "must be 'bool'"),
        (["predict", "model=yolo11n-vanillanet", "source=nowhere.jpg"], "nowhere.jpg"),
        (["train", "name=run", "=3"], "no key stands before the sign"),
        (["train", "name=run", "="], "no key stands before the sign"),
        (["train", "=3"], "train KEY=VALUE"),
        (["=", "train"], "no key stands before the sign"),
        (["task=detect"], "allowed: demo, scenes, pretrain, train"),
        (["train", "mode=val"], "two commands"),
        (["train", "epochs=1", "epochs=2"], "give it once"),
        (["settings", "reset=maybe"], "true or false"),
        (["settings", "runs_dir="], "a path"),
        (["settings", "weights_dir=/dev/null"], "nothing can be written there"),
        (["predict", "model=yolo11n-vanillanet", "device=mps"], "not on this machine"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert err.startswith("vanillayolo: ")
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.COMMANDS, "version", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["version"])


@pytest.mark.parametrize(
    ("stop", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "vanillayolo: stopped\n"),
        (KeyboardInterrupt("Epoch 3 is saved."), 130, "vanillayolo: stopped. Epoch 3 is saved.\n"),
        (WriteError("cannot write x (full)"), 1, "vanillayolo: cannot write x (full)\n"),
    ],
)
def test_what_stops_a_command_is_one_line(
    stop: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise stop

    monkeypatch.setitem(cli.COMMANDS, "version", stopped)
    assert cli.main(["version"]) == code
    assert capsys.readouterr().err == told


@pytest.mark.slow
def test_info_prints_the_published_model_to_the_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "info", "model=yolo11n-vanillanet-5-paper")
    assert code == 0
    for figure in ("29,772,192", "23,969,696", "152.05", "98.36"):
        assert figure in out


def test_info_without_a_model_lists_all_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(capsys, "info")[1].split()
    assert len(names) == 5 * 5 + 5 * (2 + 2 * 11) + 11  # of tasks and YOLO26, detectors of every variant, classifiers
    assert {"yolo11n-vanillanet", "yolo11x-vanillanet-13_x1_5_ada_pool-paper"} < set(names)


@pytest.mark.slow
def test_yaml_is_written_once_and_accepted_where_a_name_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert run(capsys, "yaml", "model=yolo11n-vanillanet-6", f"path={path}")[0] == 0
    assert path.read_text() == run(capsys, "yaml", "model=yolo11n-vanillanet-6")[1]
    assert (
        run(capsys, "info", f"model={path}")[1].split(":", 1)[1]
        == (run(capsys, "info", "model=yolo11n-vanillanet-6")[1].split(":", 1)[1])
    )
    code, _, err = run(capsys, "yaml", f"path={path}")
    assert code == 2
    assert "exists" in err


@pytest.mark.parametrize("words", [["export", "--help"], ["-h", "export"], ["help", "export"]])
def test_help_of_a_command_names_its_keys(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "  model=..., needed" in out
    assert "  dynamic=False  (bool)" in out
    assert "epochs" not in out


def test_help_of_every_command_is_made_of_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {
        "train": ("  epochs=100  (int)", "  decay=0.333", "  lean=auto", "  freeze_stages=None"),
        "compare": ("  seeds=(0, 1, 2)", "  rounds=20", "  data=..., needed"),
        "collapse": ("  path=None", "  imgsz=None"),
        "demo": ("  epochs=", "  folder=demo"),
        "track": ("  tracker=tracktrack.yaml",),
    }
    for name in cli.COMMANDS:
        code, out, _ = run(capsys, name, "--help")
        assert code == 0
        assert out.startswith(f"usage: vanillayolo {name} ")
        assert all(line in out for line in wanted.get(name, ())), name
        assert "kobj" not in out  # of another task
        if name not in ("settings", "completion"):
            told = [line.strip() for line in out.splitlines() if re.match(r"  \w+=", line)]
            assert [line for line in told if "  " not in line] == [], name  # each key has a word on it


@pytest.mark.slow
def test_checks_settings_and_defaults_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "checks")
    assert code == 0
    for name in ("vanillayolo", "ultralytics", "onnxruntime", "YOLO_OFFLINE", "bfloat16 instructions", "instructions"):
        assert re.search(rf"^{name} +\S", out, re.M), name
    assert re.search(r"^epochs: 100", run(capsys, "cfg")[1], re.M)
    before = SETTINGS["sync"]
    try:
        code, out, _ = run(capsys, "settings", f"sync={not before}")
        assert code == 0
        assert SETTINGS["sync"] != before
        assert "runs_dir" in out
    finally:
        SETTINGS.update(sync=before)


@pytest.mark.parametrize("words", [["--help"], ["version"], ["info", "--help"], ["yaml", "-h"]])
def test_what_needs_no_network_imports_none(words: list[str]) -> None:
    """In a process of its own, whose name is the installed script's."""
    heavy = "{'torch', 'ultralytics', 'cv2', 'timm', 'numpy', 'matplotlib'}"
    script = (
        f"import sys; sys.argv = ['vanillayolo', *{words}]; from vanillayolo.cli import main; code = main(); "
        f"print('loaded', sorted({heavy} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"
    assert done.stderr == ""


@pytest.mark.slow
def test_what_the_command_line_leaves_for_later_is_there_when_asked_for() -> None:
    script = (
        "import sys; sys.argv = ['vanillayolo']; import vanillayolo as v; assert 'torch' not in sys.modules; "
        "print(all(getattr(v, name) is not None for name in v.__all__), hasattr(v, 'nothing'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "False"], done.stderr


#: What is typed, and what the shell then offers.
TYPED = {
    "tra": {"track", "train"},
    "train epo": {"epochs="},
    "train data=my.yaml deca": {"decay=", "decay_shape="},
    "export model=best.pt form": {"format="},
    "train data=my": {"my.yaml"},
    "name=val train los": set(),
}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_keys_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "my.yaml").touch()
    (tmp_path / "script").write_text(run(capsys, "completion", "bash")[1])
    lines = ["source ./script"]
    for line in TYPED:  # bash itself splits the line at the signs
        words = re.findall(r"=|[^\s=]+", line)
        lines.append(f"COMP_WORDS=(vanillayolo {' '.join(words)}); COMP_CWORD={len(words)}; COMPREPLY=()")
        lines.append('_vanillayolo; echo "${COMPREPLY[*]}"')
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    offered = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(TYPED, offered, strict=True)) == TYPED, done.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh")
def test_zsh_reads_its_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "_vanillayolo"
    script.write_text(run(capsys, "completion", "zsh")[1])
    assert subprocess.run(["zsh", "-n", str(script)], timeout=60).returncode == 0
    # compadd stands in for the shell's own, which works only behind a key press
    asked = "words=(vanillayolo train epo); CURRENT=3; PREFIX=epo; compadd() { print -l -- $*; }; _vanillayolo"
    words = ["zsh", "-f", "-c", f"compdef() {{ :; }}; source {script}; {asked}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert {"epochs=", "decay="} <= set(done.stdout.split()), done.stderr
