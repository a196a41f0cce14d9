"""How good a segmentation is, and prediction of images of any size."""
