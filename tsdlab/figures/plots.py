"""The general plots under one name, for notebooks: `from tsdlab.figures import plots`.

Every function takes a result and an Axes, draws, and returns the Axes; none asks a model. Each lives in the file of its
subject, where a new one is added. Plots of sensitivity maps are in `maps`, those of a whole analysis in `measures`. A
picture of several images or panels is one call of `sheets`.
"""

from tsdlab.figures.anchors import anchors as anchors
from tsdlab.figures.comparison import ap_by_iou as ap_by_iou
from tsdlab.figures.comparison import average_precision as average_precision
from tsdlab.figures.comparison import cost_against_ap as cost_against_ap
from tsdlab.figures.comparison import dose_response as dose_response
from tsdlab.figures.comparison import speedup as speedup
from tsdlab.figures.comparison import training_curve as training_curve
from tsdlab.figures.errors import error_costs as error_costs
from tsdlab.figures.errors import image_errors as image_errors
from tsdlab.figures.errors import precision_recall as precision_recall
from tsdlab.figures.overlays import detections as detections
from tsdlab.figures.overlays import displacement as displacement
from tsdlab.figures.overlays import draw_box as draw_box
from tsdlab.figures.overlays import objects as objects
from tsdlab.figures.overlays import proposal as proposal
from tsdlab.figures.overlays import show_image as show_image
from tsdlab.figures.pooling import bilinear_weights as bilinear_weights
from tsdlab.figures.pooling import bin_arrows as bin_arrows
from tsdlab.figures.pooling import cell_grid as cell_grid
from tsdlab.figures.pooling import feature_map as feature_map
from tsdlab.figures.pooling import region as region
from tsdlab.figures.scores import class_scores as class_scores
from tsdlab.figures.scores import score_against_iou as score_against_iou
from tsdlab.figures.scores import slide_map as slide_map
from tsdlab.figures.style import PALETTE as PALETTE
from tsdlab.figures.style import color_of as color_of
from tsdlab.figures.style import plain_axes as plain_axes
