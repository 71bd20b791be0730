"""A reference for detectors that this project did not write: mmdetection.

`tests/tasks/mmdet_answers/` holds what mmdetection answers, and its README
what each array is. Tests take them by `answers.load`, and the weights, images
and boxes that they belong to from `formula`: both need NumPy alone.

The other files run where mmdetection is installed (`make .venv-mmdet/ready`),
and import nothing of this package: `write.py` makes the answers.
"""
