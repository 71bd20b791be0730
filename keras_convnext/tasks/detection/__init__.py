"""Detection: the paper's Mask R-CNN and Cascade Mask R-CNN."""
