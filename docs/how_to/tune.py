"""Searches for better fields of a recipe, with Optuna.

Usage: python tune.py photos search --trials 20

The same command again goes on, and so does it with more trials.
"""

import argparse
from pathlib import Path

import optuna

import keras_convnext


def tried(trial, recipe):
    """The recipe, with the fields that a trial tries."""
    rate = recipe.learning_rate
    return recipe.replace(
        learning_rate=trial.suggest_float(
            "learning_rate", rate / 5, rate * 5, log=True
        ),
        layer_decay=trial.suggest_float("layer_decay", 0.6, 1.0),
        weight_decay=trial.suggest_float("weight_decay", 5e-3, 0.5, log=True),
        drop_path_rate=trial.suggest_float("drop_path_rate", 0.0, 0.4),
    )


def search(train, validation, recipe, model, weights, folder, trials):
    """The study of so many trials, each of which is a run in a folder."""

    def accuracy(trial):
        of_trial = tried(trial, recipe)
        result = keras_convnext.train(
            of_trial.build(model, train.classes, weights),
            of_trial,
            train,
            folder / f"trial_{trial.number}",
            validation,
        )
        return result["best"]["val_accuracy"]

    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="recipe",
        direction="maximize",
        storage=f"sqlite:///{folder / 'study.db'}",
        load_if_exists=True,
    )
    complete = [optuna.trial.TrialState.COMPLETE]
    done = len(study.get_trials(deepcopy=False, states=complete))
    study.optimize(accuracy, n_trials=max(trials - done, 0))
    return study


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument("--learning-rate", type=float)
    given = parser.parse_args()
    recipe = keras_convnext.recipes.small_data.for_model(given.model)
    recipe = recipe.replace(epochs=given.epochs)
    if given.learning_rate:
        recipe = recipe.replace(learning_rate=given.learning_rate)
    sources = keras_convnext.data.open_splits(given.data)
    study = search(
        *sources, recipe, given.model, "imagenet", given.folder, given.trials
    )
    print(f"best val_accuracy: {study.best_value:.2%}")
    for name, value in study.best_params.items():
        print(f"--{name.replace('_', '-')} {value:.3g}")


if __name__ == "__main__":
    main()
