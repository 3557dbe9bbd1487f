"""The search's trainings on a cluster of Ray's: several at once, and each gone on with where its worker is lost.

The study and every figure are written by the search's own process alone; a worker trains into the candidate's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from vanillayolo.cluster import check_seen, on_cluster

from .search import Search, candidates, failures_told, finish, give_up

#: How often a training is begun, or gone on with, whose worker ends.
TRIES = 5


def run_on_ray(search: Search, study: Any, count: int) -> None:
    """Train candidates on the cluster, one on each GPU or core; time them in this process."""
    trials: dict[int, Any] = {}
    shared = replace(search, costs=None)

    def work() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for trial, model in candidates(search, study, count):
            trials[trial.number] = trial
            yield trial.number, (shared, trial.number, model, trial.params)

    for number, reason, lost in on_cluster(train_on_machine, work(), TRIES, gpus=True):
        if told := lost or reason:
            give_up(search, study, trials[number], told)
        else:
            finish(search, study, trials[number])


def train_on_machine(search: Search, number: int, model: str, values: Mapping[str, Any]) -> str:
    """Train a candidate, or go on with it, in a worker's process; return why it cannot be trained, if so."""
    check_seen(search.root / "search.json", search.data)
    reasons: list[str] = []
    with failures_told(reasons.append):
        search.train(number, model, values)
    return "".join(reasons)
