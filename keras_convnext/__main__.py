"""`python -m keras_convnext` is the `keras-convnext` command."""

from keras_convnext.cli import main

main()
