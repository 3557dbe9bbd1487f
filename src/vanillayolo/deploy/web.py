"""A folder that any static server serves: the page, an ONNX file, its contract, and the library that runs it there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from vanillayolo.atomic import whole_set, write_whole
from vanillayolo.data import cache_dir
from vanillayolo.errors import UsageError, one_line
from vanillayolo.valid_json import json_text
from vanillayolo.yolo.offline import no_network

#: Our own files of the page.
PAGE = Path(__file__).parents[1] / "web"
#: The npm package (MIT licence) of ONNX Runtime for browsers, and the SHA-512 of its archive, in npm's form.
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
#: Names in a page, and of what they are made.
FILES = {
    "wasm.js": "ort.wasm.bundle.min.mjs",
    "wasm.wasm.gz": "ort-wasm-simd-threaded.wasm",
    "webgpu.js": "ort.webgpu.bundle.min.mjs",
    "webgpu.wasm.gz": "ort-wasm-simd-threaded.asyncify.wasm",
}


def check_page(settings: dict[str, Any]) -> None:
    """Refuse what a page has not, before any work; afterwards its library is in the cache.

    Raises:
        UsageError: for an input of any size or several pictures, or without the library.
    """
    if settings.get("dynamic") or settings.get("batch") not in (None, 1):
        raise UsageError("format=web gives the network one picture of a fixed size; leave out dynamic and batch.")
    library()


def library() -> Path:
    """Return the folder of the cache with ``FILES``; made of the npm package where it is not there.

    Raises:
        UsageError: where the package is neither there nor to be had.
    """
    folder = cache_dir() / "web" / f"{PACKAGE}-{VERSION}"
    if not folder.is_dir():
        archive = folder.with_name(f"{folder.name}.tgz")
        with tempfile.TemporaryDirectory() as place:
            path = archive if archive.is_file() else _fetched(archive, Path(place))
            if base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode() != SHA512:
                raise UsageError(f"{archive}: not the archive of {PACKAGE} {VERSION}; remove it, fetch it again.")
            with whole_set(folder) as stage:
                (stage / folder.name).mkdir()
                _unpack(path, stage / folder.name)
    return folder


def _fetched(archive: Path, place: Path) -> Path:
    """Return the package's archive, fetched into a folder."""
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}"]
    todo = f"run '{' '.join(command)}' where there is npm and a network, and put {archive.name} into {archive.parent}."
    npm = shutil.which("npm")
    if no_network() or npm is None:
        reason = "YOLO_OFFLINE is set" if npm else "npm (of Node.js) is not installed"
        raise UsageError(f"format=web needs the npm package {PACKAGE} {VERSION}, and {reason}: {todo}")
    done = subprocess.run(
        [npm, *command[1:], "--silent", "--fetch-retries=1"], cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode or not (place / archive.name).is_file():
        reason = one_line(RuntimeError(done.stderr or done.stdout or "without a word"))
        raise UsageError(f"format=web needs the npm package {PACKAGE} {VERSION}, and npm failed ({reason}): {todo}")
    return place / archive.name


def _unpack(archive: Path, folder: Path) -> None:
    """Write ``FILES``; WebAssembly as gzip, a quarter of its size, for no static server is known to compress it."""
    with tarfile.open(archive) as package:
        for name, source in FILES.items():
            member = package.extractfile(f"package/dist/{source}")
            assert member is not None  # the archive is the one that was looked at
            content = member.read()
            (folder / name).write_bytes(gzip.compress(content, 9, mtime=0) if name.endswith(".gz") else content)


def write_page(file: Path, contract: dict[str, Any], folder: Path) -> None:
    """Write the folder of a page; the ONNX file moves into it.

    Args:
        file: the ONNX file.
        contract: its contract.
        folder: is not there yet.
    """
    shutil.copytree(PAGE, folder)
    shutil.copytree(library(), folder / "ort")
    write_whole(folder / "contract.json", json_text(contract))
    file.replace(folder / contract["file"])
