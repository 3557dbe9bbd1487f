"""The installed script, run as users run it: in a process of its own.

What it imports of others is the same for every command and takes seconds, so one process has imported it and forks for
each of them; this package itself is imported anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

Script = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]

#: Reads a line for each run, of the folder, the two files of its output and the words, and answers with its exit code.
PARENT = """
import json, os, runpy, sys
script = sys.argv[1]
sys.argv[:] = [script]  # Ultralytics keeps this list
import cv2, numpy, scipy.stats, timm, torch, ultralytics
from ultralytics.models import yolo
for line in sys.stdin:
    folder, out, err, words = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        sys.argv[1:] = words
        sys.stdin = open(0)
        runpy.run_path(script, run_name="__main__")
        os._exit(99)  # the script ends by itself
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """``script(words, folder)``: run the environment's own ``vanillayolo`` in a folder; it has to end with code 0."""
    found = shutil.which("vanillayolo", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.fail(f"no script vanillayolo beside {sys.executable}: install the package there (pip install -e .)")
    said = tmp_path_factory.mktemp("said")
    words = [sys.executable, "-c", PARENT, found]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None

        def run(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
            out, err = said / "out.txt", said / "err.txt"
            for file in (out, err):
                file.write_text("")
            print(json.dumps([str(folder), str(out), str(err), list(words)]), file=parent.stdin, flush=True)
            code = int(parent.stdout.readline())
            done = subprocess.CompletedProcess([found, *words], code, out.read_text(), err.read_text())
            assert code == 0, f"vanillayolo {' '.join(words)}:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
            return done

        yield run
