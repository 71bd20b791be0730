"""Damages every kind of file that the package opens: `make fuzz`.

    python tests/fuzz.py --count 10000
    python tests/fuzz.py onnx records --count 200 --seed 7

Each file is damaged by bit flips, cuts, splices and swapped fields, and opened
in a process that is watched. Opening must give a result, or one of the errors
that the command line prints, naming the file. Where a kind of file has
checksums, the result must be that of the whole file. A finding keeps its file,
and is repeated by its seed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fuzz_files import KINDS

SECONDS, GIGABYTES = 10, 2
START_SECONDS = 180  # of a process, which imports its frameworks
EXPECTED_ERRORS = (ValueError, ImportError, OSError, ArithmeticError)


@dataclass
class Finding:
    """What went wrong, in which try, and the damaged files."""

    kind: str
    number: int
    what: str
    folder: str


def damaged(content, generator):
    """A copy of the bytes with one to three damages."""
    data = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        damage = DAMAGES[generator.integers(len(DAMAGES))]
        if data:
            data = damage(data, generator)
    return bytes(data)


def flipped(data, generator):
    for _ in range(generator.integers(1, 9)):
        data[generator.integers(len(data))] ^= 1 << generator.integers(8)
    return data


def cut(data, generator):
    return data[: generator.integers(len(data))]


def spliced(data, generator):
    """Moves a part elsewhere."""
    start, end = _part(data, generator)
    at = generator.integers(len(data))
    return data[:at] + data[start:end] + data[at:]


def shortened(data, generator):
    start, end = _part(data, generator)
    return data[:start] + data[end:]


def swapped(data, generator):
    """Exchanges two fields of the same length."""
    size = int(generator.choice([1, 2, 4, 8, 16]))
    if len(data) < 2 * size:
        return data
    a, b = sorted(generator.integers(0, len(data) - size + 1, 2))
    if b - a >= size:
        data[a : a + size], data[b : b + size] = (
            data[b : b + size],
            data[a : a + size],
        )
    return data


def extreme(data, generator):
    """A number that no file should have, as a field of 1 to 8 bytes."""
    size = int(generator.choice([1, 2, 4, 8]))
    value = int(generator.choice([0, 1, 2 ** (8 * size - 1) - 1, -1]))
    at = generator.integers(len(data))
    field = (value % 2 ** (8 * size)).to_bytes(size, "little")
    data[at : at + size] = field
    return data


def _part(data, generator):
    start = int(generator.integers(len(data)))
    return start, start + int(generator.integers(1, 65))


DAMAGES = (flipped, flipped, cut, spliced, shortened, swapped, extreme)


# --- in a process of its own --------------------------------------------------


def work(name, originals, scratch, seed, start, count):
    """Opens one damaged copy after the other; a line for each finding."""
    kind = KINDS[name]
    expected = kind.open(originals)
    files = sorted(x for x in originals.rglob("*") if x.is_file())
    files = [x for x in files if kind.is_damaged(x)]
    for number in range(start, count):
        generator = np.random.default_rng([seed, number])
        target = scratch / str(number)
        shutil.copytree(originals, target)
        file = files[generator.integers(len(files))]
        content = damaged(file.read_bytes(), generator)
        (target / file.relative_to(originals)).write_bytes(content)
        print(json.dumps({"number": number}), flush=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what = _tried(kind, target, expected, content != file.read_bytes())
        if what is None:
            shutil.rmtree(target)
        else:
            line = {"number": number, "what": what, "folder": str(target)}
            print(json.dumps(line), flush=True)
    print(json.dumps({"number": count}), flush=True)


def _tried(kind, folder, expected, is_other):
    try:
        result = kind.open(folder)
    except EXPECTED_ERRORS as error:
        if folder.name in str(error) or folder.name in str(error.__cause__):
            return None
        return f"does not name the file: {type(error).__name__}: {error}"[:300]
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {error}"[:300]
    if kind.has_checksums and is_other and not _same(result, expected):
        return "a silently different result"
    return None


def _same(a, b):
    if len(a) != len(b):
        return False
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b))


# --- the watcher --------------------------------------------------------------


def fuzz(name, seed, count, folder):
    """Yields the findings of one kind of file."""
    originals, scratch = folder / name / "whole", folder / name / "damaged"
    if not originals.exists():
        originals.mkdir(parents=True)
        KINDS[name].write(originals)
    scratch.mkdir(exist_ok=True)
    number = 0
    while number < count:
        worker = subprocess.Popen(
            [sys.executable, __file__, "--work", name, "--seed", str(seed)]
            + ["--start", str(number), "--count", str(count)]
            + ["--folder", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        os.set_blocking(worker.stdout.fileno(), False)
        last, since, what, begun = None, time.monotonic(), None, b""
        while what is None:
            ended = worker.poll() is not None
            *lines, begun = (begun + _available(worker.stdout)).split(b"\n")
            for line in lines:
                if not line.startswith(b'{"number"'):  # a library's
                    continue
                report = json.loads(line)
                last, since = report["number"], time.monotonic()
                if "what" in report:
                    yield Finding(name, last, report["what"], report["folder"])
            if ended:
                break
            allowed = START_SECONDS if last is None else SECONDS
            if time.monotonic() - since > allowed:
                what = f"no answer in {allowed} s"
            elif _resident(worker.pid) > GIGABYTES * 2**30:
                what = f"over {GIGABYTES} GiB"
            time.sleep(0.02)
        worker.kill()
        worker.wait()
        if last is None:
            raise SystemExit(f"{name}: the whole file does not open")
        if last == count:
            return
        what = what or f"the process died (status {worker.returncode})"
        yield Finding(name, last, what, str(scratch / str(last)))
        number = last + 1


def _available(stream):
    try:
        return os.read(stream.fileno(), 2**20)
    except BlockingIOError:
        return b""


def _resident(pid):
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{[*KINDS]}")
    parser.add_argument("--count", type=int, default=10000, help="tries a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where findings are kept")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        base = options.folder / options.work
        work(
            options.work,
            base / "whole",
            base / "damaged",
            options.seed,
            options.start,
            options.count,
        )
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz_"))
    total = 0
    for name in options.kinds or KINDS:
        began, findings = time.monotonic(), 0
        for finding in fuzz(name, options.seed, options.count, folder):
            findings += 1
            print(
                f"  {name} {finding.number}: {finding.what}\n"
                f"    {finding.folder}",
                flush=True,
            )
        seconds = time.monotonic() - began
        print(
            f"{name}: {options.count} tries, {findings} findings, "
            f"{seconds:.0f} s"
        )
        total += findings
    if not options.folder and not total:
        shutil.rmtree(folder)
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
