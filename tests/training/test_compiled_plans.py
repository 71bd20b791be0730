"""Training steps compiled for TPUs, of which none is here."""

import functools
import importlib.util
import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import distribution
from keras_convnext.cli import app
from keras_convnext.layers import activations
from keras_convnext.layers import depthwise
from keras_convnext.layers import jax_functions
from keras_convnext.layers import norms
from keras_convnext.training.distribution import compiling
from keras_convnext.training.distribution import hlo
from keras_convnext.training.distribution import planning
from keras_convnext.training.distribution.chips import CHIPS
from keras_convnext.training.distribution.keeping import ON_TPUS

BACKEND = keras.backend.backend()
ON_JAX = pytest.mark.skipif(BACKEND != "jax", reason="JAX compiles for TPUs")
# By XLA for four CPU devices in a mesh of two times two, from `psum` over both
# axes, `all_gather` and `ppermute` over the first and `psum_scatter` over the
# second, of float32[8, 64] and in bfloat16; shortened.
FOUR_DEVICES = """\
HloModule jit_f, is_scheduled=true, num_partitions=4

%region_0.0 (psum.0: f32[], psum.1: f32[]) -> f32[] {
  %psum.0 = f32[] parameter(0), metadata={op_name="psum"}
  %psum.1 = f32[] parameter(1), metadata={op_name="psum"}
  ROOT %add.0 = f32[] add(%psum.0, %psum.1), metadata={op_name="add"}
}

%fused_computation (param_0.1: f32[4,32]) -> f32[4,32] {
  %param_0.1 = f32[4,32]{1,0} parameter(0)
  %convert.4 = bf16[4,32]{1,0} convert(%param_0.1), metadata={op_name="jit(f)"}
  ROOT %convert.9 = f32[4,32]{1,0} convert(%convert.4)
}

ENTRY %main.0_spmd (param.1: f32[4,32]) -> (f32[4,32], f32[8,32], bf16[2,32]) {
  %param.1 = f32[4,32]{1,0} parameter(0), sharding={devices=[2,2]<=[4]}
  %convert_fusion = f32[4,32]{1,0} fusion(%param.1), kind=kLoop, calls=%fused_computation
  %ppermute.3 = f32[4,32]{1,0} collective-permute(%param.1), channel_id=1, source_target_pairs={{0,2},{2,0},{1,3},{3,1}}, metadata={op_name="jit(f)/shard_map/ppermute"}
  %psum.7 = f32[4,32]{1,0} all-reduce(%param.1), channel_id=1, replica_groups={{0,1,2,3}}, use_global_device_ids=true, to_apply=%region_0.0, metadata={op_name="jit(f)/shard_map/psum"}
  %all_gather.3 = f32[8,32]{1,0} all-gather(%param.1), channel_id=1, replica_groups={{0,2},{1,3}}, dimensions={0}, metadata={op_name="jit(f)/shard_map/all_gather"}
  %reduce_scatter.8 = f32[2,32]{1,0} reduce-scatter(%convert_fusion), channel_id=1, replica_groups={{0,1},{2,3}}, dimensions={0}, to_apply=%region_0.0
  ROOT %tuple.5 = (f32[4,32]{1,0}, f32[8,32]{1,0}, f32[2,32]{1,0}) tuple(%psum.7, %all_gather.3, %reduce_scatter.8)
}
"""  # noqa: E501


def collective(kind, devices, size):
    return hlo.Collective(kind, devices, 1, size)


@pytest.mark.once
def test_exchanges_are_read_from_a_program():
    found = hlo.collectives(FOUR_DEVICES, 4)
    assert found == [
        collective("all-gather", 2, 4 * 8 * 32),
        collective("collective-permute", 4, 4 * 4 * 32),
        collective("all-reduce", 4, 4 * 4 * 32),
        collective("reduce-scatter", 2, 4 * 2 * 32),
    ]
    # Rings: half of what is gathered, all that is passed on, three quarters
    # twice, and half of what is scattered.
    assert [one.sent for one in found] == [512, 512, 768, 256]
    assert not hlo.collectives(FOUR_DEVICES.partition("%ppermute")[0], 4)


# In the words of the compiler for TPUs: begun apart, in tiles, and in groups
# that are counted.
TPU_TEXT = """\
ENTRY %main (p: f32[96]) -> f32[96] {
  %p.1 = f32[100,96]{1,0:T(8,128)} parameter(0)
  %p.2 = bf16[2,56,56,96]{3,0,2,1:T(8,128)(2,1)} parameter(1)
  %all-reduce-start.1 = (f32[96]{0:T(128)}, f32[100,96]{1,0:T(8,128)}) all-reduce-start(%b, %p.1), replica_groups=[2,8]<=[16], to_apply=%add
  %all-reduce-done.1 = (f32[96]{0:T(128)}, f32[100,96]{1,0:T(8,128)}) all-reduce-done(%all-reduce-start.1)
  %all-gather-start = (bf16[4]{0}, bf16[8]{0}) all-gather-start(%p.3), replica_groups=[8,2]<=[16], dimensions={0}
  %slice-start = ((bf16[2,56,56,96]{3,0,2,1:T(8,128)(2,1)}), bf16[1,56,56,96]{3,2,1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%p.2), slice={[0:1]}
  %copy = bf16[2,56,56,96]{3,0,2,1:T(8,128)(2,1)S(1)} copy(%p.2), metadata={op_name="jit(step)/stem_conv/copy"}
  ROOT %fusion = (f32[100,96]{1,0:T(8,128)}, pred[3]{0}) fusion(%copy, %p.1), kind=kLoop, calls=%c, backend_config={"estimated_cycles":"2521691"}
}
"""  # noqa: E501


@pytest.mark.once
def test_programs_of_tpus_are_read():
    assert hlo.collectives(TPU_TEXT, 16) == [
        collective("all-reduce", 8, 4 * 96 * 101),
        collective("all-gather", 2, 2 * 8),
    ]
    *_, ahead, copy, fusion = hlo.traffic(TPU_TEXT)
    # Tiles of 8 × 128 over channels and width, and over channels and batch.
    padded, size = (56 * 56 * channels * 2 for channels in (128, 96))
    assert ahead == hlo.Traffic("slice-start", "", padded, size, 0)
    name = "jit(step)/stem_conv/copy"
    assert copy == hlo.Traffic("copy", name, 8 * padded, 2 * size, 0)
    # What lies on the chip is free.
    array, laid_out = 4 * 100 * 96, 4 * 104 * 128
    expected = 2 * laid_out + 3, 2 * array + 3, 2521691
    assert fusion == hlo.Traffic("fusion", "", *expected)


@pytest.mark.once
def test_figures_of_chips_are_those_that_jax_has():
    tpu_info = pytest.importorskip("jax._src.pallas.mosaic.tpu_info")
    kinds = {"v5e": "TPU v5e", "v5p": "TPU v5p", "v6e": "TPU v6e"}
    assert kinds.keys() == CHIPS.keys()
    for name, kind in kinds.items():
        version = tpu_info.chip_version_from_device_kind(kind)
        cores = version.num_physical_tensor_cores_per_chip
        known = tpu_info._get_tpu_info_impl(version, cores)
        chip = CHIPS[name]
        # JAX has them by cores, in three digits, and a lower speed of v5p's
        # memory than Google publishes.
        for found, expected, rtol in (
            (chip.flops, known.bf16_ops_per_second, 0.01),
            (chip.memory, known.hbm_capacity_bytes, 0.01),
            (chip.bandwidth, known.mem_bw_bytes_per_second, 0.13),
        ):
            assert found == pytest.approx(cores * expected, rel=rtol)


@ON_JAX
def test_forms_are_those_of_the_target():
    import jax

    images = np.ones((1, 4, 4, 8), "float32")
    layers = {
        "depthwise": keras_convnext.layers.DepthwiseConv2D(3),
        "norm": norms.LayerNormalization(),
        "gelu": keras.layers.Activation(activations.gelu),
    }

    for layer in layers.values():
        layer.build(images.shape)

    def program(layer):
        # Of a function that was not traced before.
        return str(jax.make_jaxpr(lambda x: layer(x))(images))

    # What is better off with another form than JAX' own, and how it shows.
    marks = {
        "depthwise": "conv_general_dilated",
        "norm": "dot_general",
        "gelu": "custom_vjp",
    }

    def found():
        return [mark in program(layers[name]) for name, mark in marks.items()]

    assert depthwise.choose_implementation() == "shifted"
    assert found() == [False, True, True]
    with jax_functions.compiling_for("tpu"):
        assert depthwise.choose_implementation() == "native"
        assert found() == [True, False, False]
    assert depthwise.choose_implementation() == "shifted"


def invoke(*words):
    return CliRunner().invoke(app, ["plan", "--model", "convnext_tiny", *words])


@pytest.mark.parametrize(
    "topology", ["v9:2x2", "v5e", "v5e:", "v5e:2", "2x2", "v5e:2x2x2x2", ""]
)
@pytest.mark.once
def test_topologies_that_do_not_exist_are_refused(topology):
    with pytest.raises(ValueError, match=r"v5e, v5p, v6e, such as 'v5e:8x8'"):
        compiling.devices_of(topology)


@pytest.mark.once
def test_options_of_the_other_kind_of_plan_are_refused():
    for words, message in (
        (("--topology", "v5e:2x2", "--devices", "4"), "Leave them out"),
        (("--topology", "v5e:2x2", "--rate", "4"), "Leave them out"),
        (("--devices", "4"), "or a `--topology` of TPUs"),
        (
            ("--devices", "4", "--memory", "8GB", "--recipe", "digits"),
            "Leave them out",
        ),
    ):
        error = invoke(*words).exception
        assert isinstance(error, ValueError) and message in str(error)


def test_what_compiles_for_tpus_is_named(monkeypatch):
    monkeypatch.setattr(compiling, "is_installed", lambda module: False)
    told = invoke("--topology", "v5e:2x2").exception
    if BACKEND == "jax":
        assert isinstance(told, ImportError)
        assert 'pip install "libtpu==' in str(told)
    else:
        assert isinstance(told, ValueError)
        assert "Set KERAS_BACKEND to jax" in str(told)


def test_maps_on_tpus_fill_whole_tiles():
    model = keras_convnext.ConvNeXt(
        (1,), (96,), input_shape=(8, 8, 3), classes=2, weights=None
    )
    costs = keras_convnext.profile(model)
    # Of 2 × 2 positions: depthwise and projection fill 128 lanes each, and the
    # expansion fills its own; the others are computed again. Where images fill
    # the lanes, the channels need not.
    for images, wide in ((16, 128), (256, 96), (192, 128), (128, 96)):
        between, inside, largest = ON_TPUS.elements(costs, images)
        assert inside == largest == 4 * (2 * wide + 384), images
        # Stem and sum, and the images; pooled and classified vectors are one
        # tile each, of which the head has four.
        maps = 4 * 2 * wide + 8 * 8 * ON_TPUS.filled(3, images)
        assert maps <= between <= maps + 5 * 128
    # Four numbers of each position, by the norms of stem and block.
    assert ON_TPUS.statistics(costs) == 2 * 4 * 4 * 4


RESULTS = Path(__file__).parents[2] / "benchmarks" / "tpu" / "results.json"
STEPS = [
    row["figures"]
    for row in json.loads(RESULTS.read_text()).values()
    if row["kind"] == "steps" and row["figures"]
]
JOB = [field.name for field in fields(planning.Job)]


@pytest.mark.skipif(BACKEND != "torch", reason="models without memory")
@pytest.mark.parametrize("model", sorted({x["plan"]["model"] for x in STEPS}))
def test_the_formulas_are_within_a_tenth_of_the_compiler(model, monkeypatch):
    costs = functools.cache(planning._costs)
    monkeypatch.setattr(planning, "_costs", costs)
    for row in STEPS:
        known = row["plan"]
        if known["model"] != model:
            continue
        job = planning.Job(**{x: known[x] for x in JOB if x in known})
        (plan,) = planning.possible(job, ON_TPUS)
        # The table's own column is renewed by `benchmarks/tpu --formulas`.
        assert plan.needed == known["needed"], row["topology"]
        found = row["program"]["needed"]
        assert plan.needed == pytest.approx(found, rel=0.1), row["topology"]


class Counted:
    """What was lowered, and how often it is compiled.

    Args:
        lowered: by JAX, for this CPU.
        error: what the compiler raises, or `None`.
    """

    def __init__(self, lowered, error=None):
        self.lowered, self.error, self.count = lowered, error, 0

    def as_text(self):
        return self.lowered.as_text()

    def compile(self):
        self.count += 1
        if self.error:
            raise RuntimeError(self.error)
        return self.lowered.compile()


@pytest.fixture
def counted(tmp_path, monkeypatch):
    import jax

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "PACKAGES", ("jax",))  # without libtpu
    return Counted(jax.jit(lambda x: x @ x).lower(np.ones((64, 64), "float32")))


@ON_JAX
def test_a_program_is_compiled_once(counted, tmp_path):
    import jax

    devices = jax.devices()[:1]
    program = compiling._compiled(counted, devices)
    assert program.fits and program.arguments == 2 * 4 * 64**2
    assert program.flops == pytest.approx(2 * 64**3, rel=0.01)
    assert compiling._compiled(counted, devices) == program
    assert counted.count == 1
    jax.config.update("jax_exec_time_optimization_effort", -0.5)
    try:
        other = compiling._compiled(counted, devices)
    finally:
        jax.config.update("jax_exec_time_optimization_effort", 0.0)
    assert counted.count == 2 and other.compiler.endswith("effort=-0.5")
    for path in tmp_path.glob("**/*.json.gz"):
        path.write_bytes(path.read_bytes()[:50])
    assert compiling._compiled(counted, devices).flops == program.flops
    assert counted.count == 3


# As libtpu has said it to others, and to us.
REFUSALS = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in "
    "memory space hbm. Used 21.95G of 15.48G hbm.",
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
    "for HLO temporaries (21.95G) exceeds available HBM (15.75G).",
)


@ON_JAX
@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_does_not_fit_is_said(counted, refusal):
    import jax

    counted.error = refusal
    program = compiling._compiled(counted, jax.devices()[:1])
    assert not program.fits and program.needed == int(21.95 * 2**30)
    job = planning.Job("convnext_atto", 1, 2**34, 64, 64, 10, "float32")
    (plan, *_) = planning.possible(job, ON_TPUS)
    found = distribution.CompiledPlan(
        "v5e:1x1", CHIPS["v5e"], "digits", plan, program
    )
    assert "does not fit" in str(found) and "23.57 GB by the comp" in str(found)
    assert "step_seconds" not in found.as_dict()
    with pytest.raises(RuntimeError, match="another"):
        compiling._figures(Counted(counted.lowered, "another"), 1)


@pytest.mark.once
def test_the_slowest_of_three_bounds_a_step():
    exchanged = [collective("all-reduce", 4, 100_000_000)]
    program = compiling.Program(
        1, 2, 3, 0, 197e10, 819e7, exchanged, 5.0, "libtpu", ""
    )
    plan = SimpleNamespace(gradient_accumulation_steps=2)
    found = distribution.CompiledPlan(
        "v5e:2x2", CHIPS["v5e"], "digits", plan, program
    )
    # A hundredth of a second for each of two, and 150 MB at 200 GB/s.
    expected = {"compute": 0.01, "memory": 0.01, "exchange": 0.00075}
    assert found.seconds == pytest.approx(expected, rel=1e-6)
    assert found.step_seconds == pytest.approx(0.02, rel=1e-6)
    assert program.needed == 6


def abstract_step(monkeypatch, *arguments):
    """What the compiler would be given of a step."""
    given = []
    monkeypatch.setattr(
        compiling, "_compiled", lambda *asked: given.append(asked)
    )
    compiling.compile_step(*arguments)
    ((lowered, _),) = given
    return lowered


@ON_JAX
def test_steps_are_made_of_shapes_alone(monkeypatch):
    """The real step of a small model, for this CPU, with nothing in memory."""
    import jax

    recipe = keras_convnext.recipes.small_data.replace(
        batch_size=4, image_size=32, ema_decay=0.9, mixup_alpha=0.8
    )
    (device, *_) = jax.devices()
    before = len(jax.live_arrays())
    lowered = abstract_step(
        monkeypatch, recipe, "test_convnext", 3, [device], "float32", False, 1
    )
    assert len(jax.live_arrays()) - before < 10
    model = recipe.build("test_convnext", 3)
    count = model.count_params()
    state, (images, labels) = lowered.in_avals[0]
    trainable, _, slots, _ = state
    assert sum(x.size for x in trainable) == count
    # Two moments and the average, and a few scalars.
    assert 0 <= sum(x.size for x in slots) - 3 * count < 10
    assert images.shape == (4, 32, 32, 3) and labels.shape == (4, 3)
    assert keras.distribution.distribution() is None


@ON_JAX
def test_averages_of_large_variables_begin_on_many_devices():
    """From 250 MB on, in all copies, Keras compiles what makes a variable."""
    import jax

    def average():
        variable = keras.Variable("zeros", shape=(70_000_000,))
        optimizer = keras_convnext.optimizers.AdamW(use_ema=True)
        optimizer.build([variable])
        return optimizer.variables[-1].value

    spread = keras.distribution.DataParallel(devices=["cpu:0"])
    with spread.scope():
        assert jax.eval_shape(average).shape == (70_000_000,)


@ON_JAX
@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu compiles for TPUs: pip install the version that jax[tpu] "
    "asks for",
)
def test_a_step_is_compiled_for_tpus(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    words = ["--topology", "v5e:2x2", "--recipe", "small_data"]
    words += ["--image-size", "64", "--batch-size", "32", "--json"]
    words[:0] = ["--model", "test_convnext"]
    found = json.loads(CliRunner().invoke(app, ["plan", *words]).stdout)
    program = found["program"]
    count = found["plan"]["parameters"]
    # Weights, two moments, the average and images, filled up to whole tiles.
    least = 16 * count + 8 * 64 * 64 * 3 * 4
    assert least <= program["arguments"] < 1.5 * least
    (exchange, *_) = program["collectives"]
    assert exchange["kind"] == "all-reduce" and exchange["devices"] == 4
    # Gradients of kernels travel as they are computed, in half precision.
    total = sum(one["size"] for one in program["collectives"])
    assert 2 * count < total < 4 * count
    costs = keras_convnext.profile(
        keras_convnext.create_model(
            "test_convnext", weights=None, input_shape=(64, 64, 3)
        )
    )
    # Forward, and twice as much backward.
    assert program["flops"] == pytest.approx(6 * 8 * costs.macs, rel=0.2)
    again = json.loads(CliRunner().invoke(app, ["plan", *words]).stdout)
    assert again == found  # with the seconds of the first time
    with pytest.raises(ValueError, match="one that Google offers"):
        distribution.compiled_plan("test_convnext", "v5e:3x3")
