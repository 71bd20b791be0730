"""`python -m mmdet_reference FOLDER` runs `write.py`."""

from mmdet_reference import operators  # noqa: F401  before mmcv is imported
from mmdet_reference import write

write.main()
