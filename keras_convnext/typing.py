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
