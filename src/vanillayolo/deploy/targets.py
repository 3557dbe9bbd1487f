"""The chips whose compilers run here, as a table: packages, arguments, and the rewrites that a chip is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vanillayolo.errors import UsageError, closest
from vanillayolo.yolo.files import missing_packages

#: What makes a full int8 file and compiles it. The writer's bounds are those of Ultralytics' own LiteRT export.
PACKAGES = ("ethos-u-vela>=5.2", "litert-torch>=0.10.0", "ai-edge-quantizer>=0.10.0", "ai-edge-litert>=2.3.0")
EXTRA = "npu"


@dataclass(frozen=True)
class Target:
    """A chip.

    Attributes:
        arguments: of the compiler: which chip it compiles for; empty where no compiler of the chip runs here.
        simulator: key of :data:`vanillayolo.deploy.simulators.SIMULATORS`: the tool that computes the chip's file
            here; empty where the compiler is asked for cycles, or for nothing.
        rewrites: names in :data:`vanillayolo.deploy.rewrites.REWRITES`, those that lower its cycles.
        packages: what has to be installed.
        format: of the files that its compiler takes.
        settings: of their export, where the user gives no others.
    """

    arguments: tuple[str, ...]
    simulator: str = ""
    rewrites: tuple[str, ...] = ()
    packages: tuple[str, ...] = PACKAGES
    format: str = "litert"
    settings: tuple[tuple[str, Any], ...] = (("int8", True), ("decode", "outside"))


def _ethos(name: str) -> Target:
    """Return the row of one of Arm's Ethos-U, by the name that its compiler has for it."""
    return Target(("--accelerator-config", name), rewrites=("stem-in-two", "pool-by-axis"))


def _simulated(chip: str, simulator: str, version: str) -> Target:
    """Return the row of a chip by its tool's name for it, of the tool that has to be so new."""
    packages = (f"{simulator}>={version}", "onnx>=1.17")
    return Target((chip,), simulator, packages=packages, format="onnx", settings=(("decode", "outside"),))


#: Arm's Ethos-U by the multiply-adds that they make in a cycle.
TARGETS = {name: _ethos(name) for name in ("ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512")}
TARGETS |= {name: _ethos(name) for name in ("ethos-u85-256", "ethos-u85-512", "ethos-u85-1024")}
#: Sophgo's compiler refuses a constant first factor.
TARGETS |= {name: Target((), "", ("mean-by-convolution",), (), "onnx", ()) for name in ("cv181x", "bm1684x")}
#: Rockchip's and Espressif's tools compute the chip's file on this machine.
TARGETS |= {name: _simulated(name, "rknn-toolkit2", "2.5") for name in ("rk3566", "rk3576", "rk3588")}
TARGETS |= {name: _simulated(name.replace("-", ""), "esp-ppq", "1.3.12") for name in ("esp32-p4", "esp32-s3")}


#: Sony's: the toolkit's int8 network runs here, its converter (Java) packs it.
SONY = ("model-compression-toolkit>=2.6.1", "imx500-converter>=3.19", "edge-mdt-cl>=1.1")
TARGETS["imx500"] = Target(("imx500",), "model-compression-toolkit", packages=SONY, format="", settings=())


def target_row(name: object) -> Target:
    """Return a row of the table.

    Raises:
        UsageError: for a name that is none.
    """
    if str(name) not in TARGETS:
        raise UsageError(f"target={name}: {closest(str(name), TARGETS)}")
    return TARGETS[str(name)]


def check_target(name: object) -> Target:
    """Return a row of the table, its packages being there.

    Raises:
        UsageError: for a name that is none, whose compiler does not run here, or for a package that is missing.
    """
    target = target_row(name)
    if not target.arguments:
        raise UsageError(f"target={name}: its compiler does not run here; export target={name} writes a file for it.")
    if missing := missing_packages(target.packages):
        how = " ".join(f"'{word}'" for word in missing) if target.simulator else f"'vanillayolo[{EXTRA}]'"
        raise UsageError(f"target={name} needs {', '.join(missing)}: pip install {how} installs them.")
    return target
