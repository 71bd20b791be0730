"""The table of what was compiled, as Markdown."""

from keras_convnext.training.distribution.planning import as_text

HEAD = """\
# What the compiler for TPUs says

Written by `KERAS_BACKEND=jax python benchmarks/tpu`. Nothing of this has run
on a TPU. Seconds of compiling are those of one core, all cores added up.
"""
STEPS = """
## Training steps

mixed_bfloat16 at 224 pixels, batches of 4096 over all chips. "Compiler" is
what a chip has to hold, "formulas" what `plan` without a compiler says.

| model | topology | images × micro-batches | again | compiler | formulas | \
ratio | TFLOP | moved | exchanged | ms: compute / memory / exchange | seconds |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |
"""
FORMS = """
## Depthwise 7 × 7, one v5e chip, 64 images

Forward, and forward and backward. Temporaries are beside arguments and results.

| map | dtype | form | forward: moved | temporaries | training: moved | \
temporaries | compiled in |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
"""
PARTS = """
## Which parts take most

Bytes between chip and memory by part of the model and direction, as laid out;
how much of them is padding to whole tiles; and the compiler's estimate of
cycles, as parts of all. An instruction counts for the layer that it is named
after, though XLA fuses neighbors into it.
"""


def write(results, wanted, path):
    """Writes all tables, of the results that there are of those wanted."""
    done = {key: x for key, x in results.items() if x["figures"]}
    steps = [x for x in done.values() if x["kind"] == "steps"]
    forms = [x for x in done.values() if x["kind"] == "forms"]
    lines = [HEAD]
    if steps:
        lines += [STEPS, *map(_step, steps)]
    missing = [
        f"{k} ({x['reason']})" for k, x in results.items() if x["reason"]
    ]
    if missing:
        lines.append(f"\nLeft out: {'; '.join(missing)}.\n")
    waiting = [name for name in wanted if name not in results]
    if waiting:
        lines.append(f"\nNot compiled yet: {'; '.join(waiting)}.\n")
    if forms:
        lines += [FORMS, *map(_form, forms)]
    if steps:
        lines += [PARTS, *map(_parts, steps)]
    dates = sorted({x["date"] for x in results.values()})
    lines.append(f"\nCompiled from {dates[0]} to {dates[-1]}.\n")
    path.write_text("".join(lines))


def _step(row):
    found = row["figures"]
    plan, program = found["plan"], found["program"]
    again = "yes" if plan["rematerialize"] else "no"
    cells = [
        row["model"],
        row["topology"],
        f"{plan['device_batch']} × {plan['gradient_accumulation_steps']}",
        again,
        as_text(program["needed"]),
        as_text(plan["needed"]),
        f"{plan['needed'] / program['needed']:.2f}",
    ]
    if program["fits"]:
        exchanged = sum(x["size"] for x in program["collectives"])
        seconds = [1e3 * x for x in found["seconds"].values()]
        cells += [
            f"{program['flops'] / 1e12:.2f}",
            as_text(program["bytes_accessed"]),
            as_text(exchanged),
            " / ".join(f"{x:.3g}" for x in seconds),
        ]
    else:
        cells += ["does not fit", "", "", ""]
    return _line([*cells, f"{program['seconds']:.0f} s"])


def _form(row):
    forward, training = (row["figures"][x] for x in ("forward", "training"))
    cells = [f"{row['side']}²×{row['channels']}", row["dtype"], row["form"]]
    for one in (forward, training):
        sizes = one["bytes_accessed"], one["temporaries"]
        cells += [f"{size / 1e6:,.0f} MB" for size in sizes]
    seconds = forward["seconds"] + training["seconds"]
    return _line([*cells, f"{seconds:.0f} s"])


def _parts(row):
    parts = row["figures"]["parts"]
    if not parts:
        return ""
    total = sum(padded for padded, _, _ in parts.values())
    cycles = sum(count for *_, count in parts.values()) or 1
    lines = [
        f"\n### {row['model']} on {row['topology']}\n\n"
        f"{as_text(total)} in all.\n\n"
        "| part | moved | padding | cycles |\n| --- | ---: | ---: | ---: |\n"
    ]
    for name, (padded, size, count) in parts.items():
        waste = 1 - size / padded if padded else 0
        lines.append(
            _line(
                [
                    name,
                    f"{padded / total:.1%}",
                    f"{waste:.0%}",
                    f"{count / cycles:.1%}",
                ]
            )
        )
    return "".join(lines)


def _line(cells):
    return f"| {' | '.join(cells)} |\n"
