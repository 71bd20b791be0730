"""What the recipes of dense tasks have in common: runs counted in steps."""

from keras_convnext.models.applications import create_model
from keras_convnext.training.optimizers.adamw import AdamW
from keras_convnext.training.recipes.base import BaseRecipe


class StepRecipe(BaseRecipe):
    """A recipe of a model on a ConvNeXt; derived classes have the figures.

    They also have `schedule`, and `layer_scales`: the factors on the learning
    rates of a model's layers.
    """

    SPANS = ("warmup_steps", "steps", int)

    def _backbone(self, name, weights, dtype=None):
        """The backbone of `build`, by its architecture's name."""
        return create_model(
            name,
            include_top=False,
            weights=weights,
            drop_path_rate=self.drop_path_rate,
            data_format="channels_last",
            dtype=dtype,
        )

    def _optimizer(self, model):
        """The `AdamW` of `optimizer`, with the figures of the model's size."""
        recipe = self.for_model(model)
        return AdamW(
            recipe.schedule(),
            weight_decay=recipe.weight_decay,
            beta_1=recipe.beta_1,
            beta_2=recipe.beta_2,
            global_clipnorm=recipe.global_clipnorm,
            learning_rate_scales=recipe.layer_scales(model, recipe.layer_decay),
        )
