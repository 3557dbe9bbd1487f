"""The chips whose compilers run here, as a table: packages, arguments, and the rewrites that a chip is given."""

from __future__ import annotations

from dataclasses import dataclass

from vanillayolo.errors import UsageError, closest
from vanillayolo.yolo.files import missing_packages

#: What makes a full int8 file and compiles it. The writer's bounds are those of Ultralytics' own LiteRT export.
PACKAGES = ("ethos-u-vela>=5.2", "litert-torch>=0.10.0", "ai-edge-quantizer>=0.10.0", "ai-edge-litert>=2.3.0")
EXTRA = "npu"


@dataclass(frozen=True)
class Target:
    """A chip.

    Attributes:
        arguments: of the compiler: which chip it compiles for.
        rewrites: names in :data:`vanillayolo.deploy.rewrites.REWRITES`, those that lower its cycles.
        packages: what has to be installed.
    """

    arguments: tuple[str, ...]
    rewrites: tuple[str, ...] = ()
    packages: tuple[str, ...] = PACKAGES


def _ethos(name: str) -> Target:
    """Return the row of one of Arm's Ethos-U, by the name that its compiler has for it."""
    return Target(("--accelerator-config", name), ("stem-in-two", "pool-by-axis"))


#: Arm's Ethos-U by the multiply-adds that they make in a cycle.
TARGETS = {name: _ethos(name) for name in ("ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512")}
TARGETS |= {name: _ethos(name) for name in ("ethos-u85-256", "ethos-u85-512", "ethos-u85-1024")}


def check_target(name: object) -> Target:
    """Return a row of the table, its packages being there.

    Raises:
        UsageError: for a name that is none, or a package that is missing.
    """
    if str(name) not in TARGETS:
        raise UsageError(f"target={name}: {closest(str(name), TARGETS)}")
    target = TARGETS[str(name)]
    if missing := missing_packages(target.packages):
        raise UsageError(f"target={name} needs {', '.join(missing)}: pip install 'vanillayolo[{EXTRA}]' installs them.")
    return target
