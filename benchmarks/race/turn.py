"""One task of the benchmark: who meets whom, and what is kept of it."""

import contextlib
import statistics
import time
from dataclasses import asdict

from race import ratios
from race.process import Failure

# Threads of the one who ran last spin for a while, waiting for more.
SETTLE_SECONDS = 0.3
# A training step's multiply-adds: forward, and two gradients of as many.
PASSES = {"inference": 1, "training": 3}


class Turn:
    """One task: starts who takes part, and makes them run in turn."""

    def __init__(self, task, starter, pairs, progress):
        self.task = task
        self.starter = starter
        self.pairs = pairs
        self.progress = progress
        self.records = {}
        self.comparisons = []

    def measure(self, contestants, results):
        """Everyone's record, and the comparisons, as JSON's types."""
        for ours, peers in groups(contestants, self.task.mode):
            with self._side(ours) as own:
                for peer in peers or [None]:
                    with self._side(peer) as other:
                        self._duel(own, other)
        if (best := self._fastest(contestants)) is not None:
            self.progress.expect(self.pairs)
            with self._side(best[0]) as own, self._side(best[1]) as other:
                self._duel(own, other)
        macs = results["macs"][str(self.task.image_size)]
        for contestant in contestants:
            if contestant.name in self.records:
                self._summarize(contestant, macs, results["ceiling"]["gflops"])
        return {
            **asdict(self.task),
            "contestants": list(self.records.values()),
            "comparisons": self.comparisons,
        }

    @contextlib.contextmanager
    def _side(self, contestant):
        """A started `Side`, or `None` where there is none or it fails."""
        if contestant is None:
            yield None
            return
        name = contestant.name
        self.progress.begin(f"{self.task}: starting {name}")
        record = self.records.setdefault(
            name,
            {
                "name": name,
                "runs_on": contestant.runs_on,
                "is_ours": contestant.is_ours,
                "failure": None,
                "seconds": [],
            },
        )
        with contextlib.ExitStack() as stack:
            side = None
            try:
                process = stack.enter_context(
                    self.starter.start(contestant, self.task)
                )
                # Of two starts the first counts.
                record |= {**process.answer(), **record}
                side = Side(record, process)
            except Failure as failure:
                self._failed(record, failure)
            yield side

    def _duel(self, own, other):
        """Runs both in turn, or the one that there is alone."""
        sides = [side for side in (own, other) if side is not None]
        samples = []
        self.progress.begin(
            f"{self.task}: " + " and ".join(x.name for x in sides)
        )
        for number in range(self.pairs):
            seconds = {}
            for side in sides if number % 2 == 0 else sides[::-1]:
                if side.record["failure"] is None:
                    try:
                        seconds[side.name] = side.run()
                    except Failure as failure:
                        self._failed(side.record, failure)
            if len(seconds) == 2:
                samples.append(
                    {
                        "first": next(iter(seconds)),
                        "ours": seconds[own.name],
                        "theirs": seconds[other.name],
                    }
                )
            self.progress.advance()
        if len(samples) == self.pairs:
            self._compare(own, other, samples)

    def _compare(self, own, other, samples):
        found = ratios.compared(samples)
        self.comparisons.append(
            {
                "ours": own.name,
                "theirs": other.name,
                "pairs": samples,
                **found,
            }
        )
        low, high = found["interval"]
        self.progress.say(
            f"{self.task}: {own.name} is {found['median']:.2f} times "
            f"({low:.2f}–{high:.2f}) as fast as {other.name}"
        )

    def _fastest(self, contestants):
        """The best of ours and of the others, unless they have met."""
        best = {}
        for contestant in contestants:
            record = self.records.get(contestant.name)
            if not record or record["failure"] or not record["seconds"]:
                continue
            if not contestant.is_same_network:
                continue
            seconds = statistics.median(record["seconds"])
            known = best.get(contestant.is_ours)
            if known is None or seconds < known[0]:
                best[contestant.is_ours] = seconds, contestant
        if len(best) < 2:
            return None
        ours, theirs = best[True][1], best[False][1]
        return None if ours.name == theirs.against else (ours, theirs)

    def _failed(self, record, failure):
        record["failure"] = str(failure)
        self.progress.say(f"{self.task}: {record['name']}: {failure}")

    def _summarize(self, contestant, macs, ceiling):
        """Adds what follows from the raw times."""
        record, count = self.records[contestant.name], self.task.batch_size
        if not record["seconds"]:
            return
        found = ratios.spread([count / x for x in record["seconds"]])
        record["images_per_second"] = found["median"]
        record["images_per_second_interval"] = found["interval"]
        if contestant.is_same_network:
            operations = 2 * macs * PASSES[self.task.mode]
            record["gflops"] = operations * found["median"] / 1e9
            record["part_of_ceiling"] = record["gflops"] / ceiling


class Side:
    """A contestant that is running."""

    def __init__(self, record, process):
        self.name = record["name"]
        self.record = record
        self.process = process

    def run(self):
        """Seconds of a call."""
        time.sleep(SETTLE_SECONDS)
        answer = self.process.run()
        seconds = answer.pop("seconds")
        self.record["seconds"].append(seconds)
        self.record |= answer
        return seconds


def groups(contestants, mode):
    """Pairs of one of ours, or `None`, and the peers that it meets."""
    present = [x for x in contestants if mode in x.modes]
    names = [x.name for x in present if x.is_ours]
    found = [
        (ours, [x for x in present if x.against == ours.name])
        for ours in present
        if ours.is_ours
    ]
    left = [x for x in present if not x.is_ours and x.against not in names]
    return found + [(None, [x]) for x in left]
