"""RoI ops: where a region looks."""

from tsdlab.ops.precise import precise_roi_pool
from tsdlab.ops.roi_align import MultiScaleDeformRoIAlign, RegionPooler, deform_roi_align

__all__ = ["MultiScaleDeformRoIAlign", "RegionPooler", "deform_roi_align", "precise_roi_pool"]
