"""RoI ops: pooling of image regions, with or without offsets."""

from tsdlab.ops.precise import precise_roi_pool
from tsdlab.ops.roi_align import MultiScaleDeformRoIAlign, RegionPooler, deform_roi_align

__all__ = ["MultiScaleDeformRoIAlign", "RegionPooler", "deform_roi_align", "precise_roi_pool"]
