"""How fast this package is beside others: measured in turn, in one run."""

from race.contest import run
from race.contestants import CONTESTANTS
from race.contestants import Contestant
from race.contestants import select
from race.tasks import Task

__all__ = ["CONTESTANTS", "Contestant", "Task", "run", "select"]
