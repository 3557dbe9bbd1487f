"""The detection predictor: Ultralytics' own, but for the features by which trackers know an object again."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from ultralytics.models.yolo.detect import DetectionPredictor


class VanillaPredictor(DetectionPredictor):
    """Ultralytics' predictor for necks of any widths.

    Its own takes every map's channels for a multiple of the narrowest's; where they are not, as in the plain neck (384,
    512 and 1024 times the letter's width), it fails or reads other places of the map than the object's.
    """

    @staticmethod
    def get_obj_feats(feat_maps: list[Tensor], idxs: list[Tensor]) -> list[Any]:
        """Return the features at every kept box, each map's channels averaged down to the narrowest map's.

        Where they are multiples of it, these are Ultralytics' own features.

        Args:
            feat_maps: maps ``[batch, channels, height, width]``, fine to coarse.
            idxs: of every image, the cells of the kept boxes, counted through all maps.

        Returns:
            Of every image ``[boxes, channels]``, or an empty list where it has no box.
        """
        shortest = min(x.shape[1] for x in feat_maps)
        cells = torch.cat([F.adaptive_avg_pool1d(x.flatten(2).transpose(1, 2), shortest) for x in feat_maps], 1)
        return [features[kept] if len(kept) else [] for features, kept in zip(cells, idxs, strict=True)]
