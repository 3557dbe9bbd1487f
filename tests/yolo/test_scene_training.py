from __future__ import annotations

import itertools
import pickle

import numpy as np
import torch

from vanillayolo.data import Scenes, SceneSettings
from vanillayolo.yolo.scene_training import EpochByEpoch, SceneStream


def test_the_stream_goes_on_after_the_written_pictures() -> None:
    written = SceneSettings(pictures=6, size=64, classes=4, seed=3)
    stream = pickle.loads(pickle.dumps(SceneStream(written, 10)))  # as a loader's process has it
    picture, labels = Scenes(SceneSettings(pictures=100, size=64, classes=4, seed=3))[6 + 17]
    item = stream[17]
    assert np.array_equal(item["img"].permute(1, 2, 0).numpy()[..., ::-1], picture)
    assert item["cls"][:, 0].tolist() == labels.classes.tolist()
    corners = torch.cat(
        [item["bboxes"][:, :2] - item["bboxes"][:, 2:] / 2, item["bboxes"][:, :2] + item["bboxes"][:, 2:] / 2], 1
    )
    assert np.allclose(corners.numpy() * 64, labels.boxes, atol=1e-3)
    batch = SceneStream.collate_fn([stream[0], item])
    assert batch["batch_idx"].tolist() == [0.0] * len(stream[0]["cls"]) + [1.0] * len(item["cls"])


def test_each_process_has_its_share_and_a_resumed_run_the_same() -> None:
    samplers = [EpochByEpoch(10, rank, 3) for rank in range(3)]
    for epoch in range(2):
        shares = [list(sampler) for sampler in samplers]
        assert {len(share) for share in shares} == {3}
        assert sorted(itertools.chain(*shares)) == list(range(10 * epoch, 10 * epoch + 9))
    resumed = EpochByEpoch(10, 1, 3)
    resumed.epoch = 2
    assert list(resumed) == list(samplers[1])
