"""The commands, names and figures of docs/ are those of the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from installed import Script
from vanillayolo import cli
from vanillayolo.deploy.formats import FORMATS
from vanillayolo.deploy.verification import TOLERANCES
from vanillayolo.deploy.web import library
from vanillayolo.errors import UsageError
from vanillayolo.yolo.files import missing_packages
from vanillayolo.yolo.inference import letterbox, read_image

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(?P<language>\w*)\n(?P<code>.*?)```", re.S)
#: A row of the table of formats: the settings behind ``format=``, the name of the file, the extra.
ROW = re.compile(
    r"^\| `\S.*?format=(?P<words>[^`]*)` \| `best(?P<ending>[^`/]*)/?`.*?\|.*?\| (?:`(?P<extra>\w+)` )?\|$", re.M
)


def whole_lines(code: str) -> list[str]:
    return code.replace("\\\n", " ").splitlines()


def commands(text: str) -> list[list[str]]:
    """Return the words behind ``vanillayolo`` of every line in a block."""
    lines = [line.partition("  #")[0].split() for m in BLOCK.finditer(text) for line in whole_lines(m["code"])]
    return [words[1:] for words in lines if words[:1] == ["vanillayolo"] and "--help" not in words]


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.stem)
def test_commands_are_known_and_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for words in commands(text):
        cli.parse(words)
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text):
        assert (document.parent / target).exists(), target


def test_the_table_of_formats_is_ours() -> None:
    rows = [m.groupdict() for m in ROW.finditer(DEPLOYMENT)]
    assert {row["words"].split()[0] for row in rows} == set(FORMATS)
    for row in rows:
        format, *settings = row["words"].split()
        chosen = FORMATS[format]
        assert row["ending"] == (chosen.int8.ending if chosen.int8 and "int8=True" in settings else chosen.ending)
        assert row["extra"] == (chosen.extra if chosen.running else None)


def test_the_tolerances_are_ours() -> None:
    proof = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (outputs|boxes|mAP50-95) \| [^|]+ \| (.*) \|$", proof, re.M))
    kinds = [TOLERANCES[kind] for kind in ("float32", "float16", "int8")]
    assert [kinds[0].raw, kinds[1].raw] == [float(x) for x in rows["outputs"].split(" | ")[:2]]
    assert rows["boxes"] == " | ".join(f"{kind.boxes:.0%}".replace("%", " %") for kind in kinds)
    assert rows["mAP50-95"] == " | ".join(f"{kind.map:g}" for kind in kinds)


@pytest.fixture
def workplace(tmp_path: Path, lively: Path, lively_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name: a checkpoint, a picture, a data YAML."""
    (tmp_path / "best.pt").write_bytes(lively.read_bytes())
    (tmp_path / "my.yaml").write_text(lively_data.read_text(encoding="utf-8"), encoding="utf-8")
    picture = sorted((lively_data.parent / "images" / "val").iterdir())[0]
    cv2.imwrite(str(tmp_path / "street.jpg"), read_image(picture))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    """Run a command at a size that the network is for."""
    small = ["imgsz=64", *(["images=4", "verify=False"] if "int8=True" in words else [])]
    return cli.main([*words, *small])


def first_block(page: str) -> str:
    """Return a page's first block, its example."""
    match = BLOCK.search((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))
    assert match, page
    return match[0]


def has_library() -> bool:
    """Return whether the page's runtime is here, or can be had."""
    try:
        return library().is_dir()
    except UsageError:
        return False


@pytest.mark.slow
def test_commands_and_code_of_deployment_run(workplace: Path, script: Script) -> None:
    """From best.pt to boxes, in the document's order, in every format whose packages are here."""
    collapse, export, verify, prove = commands(first_block("deployment"))
    assert run(*collapse) == 0
    for row in ROW.finditer(DEPLOYMENT):
        format, *settings = row["words"].split()
        if FORMATS[format].page_of and not has_library():
            continue
        if not missing_packages([*FORMATS[format].running, *FORMATS[format].making]):
            assert run("export", "model=best.pt", f"format={format}", *settings) == 0
            assert (workplace / f"best{row['ending']}").exists()
    if not (workplace / "best.onnx").exists() or not (workplace / "best_openvino_model").exists():
        pytest.skip("the code below needs ONNX Runtime and OpenVINO: pip install 'vanillayolo[export]'")
    assert run(*export) == 0  # the last of that name has suppression inside
    script([*verify, "imgsz=64"], workplace)
    script(prove, workplace)
    int8, layers = commands(first_block("quantization"))
    assert int8 == ["export", "model=best.pt", "format=onnx", "int8=True", "data=my.yaml"]  # made above
    assert run(*layers) in (0, 1)  # int8 of a network that learnt nothing
    assert commands(first_block("browser")) == [["export", "model=best.pt", "format=web", "imgsz=320"]]  # made above
    names: dict[str, Any] = {"x": letterbox(read_image("street.jpg"), 64).numpy()}
    for block in BLOCK.finditer(DEPLOYMENT):
        if block["language"] == "python":
            exec(compile(block["code"], "deployment.md", "exec"), names)
    assert names["output"].shape[:2] == (1, 7)
    (line,) = [
        line for m in BLOCK.finditer(DEPLOYMENT) for line in m["code"].splitlines() if line.startswith("python ")
    ]
    words = [sys.executable, str(ROOT / "examples" / "onnxruntime_detect.py"), *line.split()[2:]]
    assert subprocess.run(words, timeout=120).returncode == 0


def test_the_figures_of_npus_are_those_of_the_record() -> None:
    text = (ROOT / "docs" / "npu_results.md").read_text(encoding="utf-8")
    record = json.loads((ROOT / "benchmarks" / "time" / "vela.json").read_text(encoding="utf-8"))
    chips = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-512")
    peer = record["peers"]["yolo11n"]
    known = set()
    for found in record["networks"].values():
        shares = [(found[c]["cycles"] / 1e6, found[c]["cycles"] / peer[c]["cycles"]) for c in chips]
        known.add((f"{found['parameters']:,}", *(f"{cycles:.2f} ({share:.2f})" for cycles, share in shares)))
    rows = re.findall(r"^\| .* \| ([\d,]+) \| (.*?) \| (.*?) \| (.*?) \| [\d,]+ \|$", text, re.M)
    assert len(rows) > 10
    assert set(rows) <= known
    rewrites = {tuple(f"{found[c]['cycles'] / 1e6:.2f}" for c in chips) for found in record["rewrites"].values()}
    rows = re.findall(r"^\| .* \| (\d+\.\d\d) \| (\d+\.\d\d) \| (\d+\.\d\d) \|$", text, re.M)
    assert len(rows) == 4
    assert set(rows) <= rewrites


def build_site(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("planted", [(), ("gone.md", "training.md#gone", "../benchmarks/gone.json")])
def test_the_site_builds_and_broken_links_fail(planted: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    for name in ("docs", "src", "examples", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    if planted:
        (tmp_path / "docs").unlink()
        shutil.copytree(ROOT / "docs", tmp_path / "docs")
        (tmp_path / "docs" / "reference.md").write_text("\n".join(f"[a]({link})" for link in planted))  # it takes long
    done = build_site(tmp_path, tmp_path / "site")
    assert (done.returncode == 0) == (not planted), done.stderr[-2000:]
    assert all(re.split("[/#]", link)[-1] in done.stderr for link in planted)
    if planted:
        return
    reference = (tmp_path / "site" / "reference.html").read_text()
    assert "Merge" in reference
    assert ":func:" not in reference
    assert (tmp_path / "site" / "repository" / "examples" / "onnxruntime_detect.py").is_file()
    # nothing is asked of another host when a page is opened
    page = (tmp_path / "site" / "index.html").read_text()
    assert not re.search("(<script[^>]+src|<link[^>]+stylesheet[^>]+href)=.https?:", page)
