"""What public functions take, for type checkers and readers."""

import os
from typing import Any
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

PathLike: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = npt.NDArray[Any]
ArrayLike: TypeAlias = npt.ArrayLike
# A tensor of the running backend: none of them has a type in common.
Tensor: TypeAlias = Any
Images: TypeAlias = npt.NDArray[np.uint8]
# A matplotlib `Figure` or `SubFigure`, of a package that is optional.
Figure: TypeAlias = Any
# A dict from model size to value, in place of the value that `for_model` picks.
BySize: TypeAlias = Any
