"""The momentum of other systems, each with the call here that equals it."""

from typing import NamedTuple


class Phrase(NamedTuple):
    """How one system computes momentum.

    Symbols: θ parameters; g their gradient; m, v the buffer, 0 before the first step;
    α the learning rate of the step; β momentum; τ dampening; λ weight decay.

    Attributes:
      system: library and optimizer.
      update: what a step computes, in order.
      rate: where α enters: "outside", multiplying what is read from the buffer, or
        "inside", multiplying the gradient that enters it. They differ once α changes.
      decay: where λ enters; "" if the optimizer has none.
      first_step: the first step for a gradient of 1, over α.
      settles_at: the step that a constant gradient of 1 leads to, over α.
      call: what equals it here: an expression of `learning_rate`, a schedule, `beta`,
        `weight_decay` and `dampening`, and of names of `optax_momentum` and `optax`.
      differs: what the call does not reproduce, or what else to know; "" if nothing.
      source: repository, version or commit, and file that was read.
    """

    system: str
    update: str
    rate: str
    decay: str
    first_step: str
    settles_at: str
    call: str
    differs: str
    source: str


_COUPLED = "g ← g + λ·θ, before the buffer"
_DECOUPLED = "θ ← θ − α·λ·θ, beside the step"
_OUTSIDE, _INSIDE = "outside", "inside"
_SETTLED = "1/(1 − β)"
_DECAYED_GRADIENT = "optax.add_decayed_weights(weight_decay)"
_SCALED = "optax.scale_by_learning_rate(learning_rate)"
_DECAY_OF_KERAS = (
    "optax.add_decayed_weights(lambda step: -weight_decay * learning_rate(step))"
)


def _coupled_keras(arguments: str = "") -> str:
    return f"optax.chain({_DECAYED_GRADIENT}, keras(learning_rate, beta{arguments}))"


phrasebook: tuple[Phrase, ...] = (
    Phrase(
        "PyTorch, torch.optim.SGD",
        "m ← β·m + (1 − τ)·g, but m ← g at the first step; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1",
        "(1 − τ)/(1 − β)",
        "sgd(learning_rate, beta, dampening=dampening, weight_decay=weight_decay)",
        "A parameter whose gradient is None is skipped, and its own first gradient is "
        "undamped.",
        "pytorch/pytorch v2.13.0, torch/optim/sgd.py",
    ),
    Phrase(
        "PyTorch, torch.optim.SGD(nesterov=True)",
        "m ← β·m + g; θ ← θ − α·(g + β·m)",
        _OUTSIDE,
        _COUPLED,
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True, weight_decay=weight_decay)",
        "",
        "pytorch/pytorch v2.13.0, torch/optim/sgd.py",
    ),
    Phrase(
        "Keras 3, SGD",
        "v ← β·v − α·g; θ ← θ + v",
        _INSIDE,
        _DECOUPLED,
        "1",
        _SETTLED,
        f"optax.chain(keras(learning_rate, beta), {_DECAY_OF_KERAS})",
        "",
        "keras-team/keras 3.15.1, keras/src/optimizers/sgd.py",
    ),
    Phrase(
        "Keras 3, SGD(nesterov=True)",
        "v ← β·v − α·g; θ ← θ + β·v − α·g",
        _INSIDE,
        _DECOUPLED,
        "1 + β",
        _SETTLED,
        f"optax.chain(keras(learning_rate, beta, nesterov=True), {_DECAY_OF_KERAS})",
        "tf.keras of TensorFlow 2 is the same, without decay.",
        "keras-team/keras 3.15.1, keras/src/optimizers/sgd.py",
    ),
    Phrase(
        "TensorFlow 1, MomentumOptimizer",
        "m ← β·m + g; θ ← θ − α·m",
        _OUTSIDE,
        "",
        "1",
        _SETTLED,
        "sgd(learning_rate, beta)",
        "TensorFlow's migration guide maps it to Keras's SGD, which differs once α "
        "changes.",
        "tensorflow/tensorflow 2.21.0, tensorflow/core/kernels/training_ops.cc",
    ),
    Phrase(
        "TensorFlow 1, MomentumOptimizer(use_nesterov=True)",
        "m ← β·m + g; θ ← θ − α·g − α·β·m",
        _OUTSIDE,
        "",
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True)",
        "",
        "tensorflow/tensorflow 2.21.0, tensorflow/core/kernels/training_ops.cc",
    ),
    Phrase(
        "Optax, sgd and trace",
        "m ← g + β·m; θ ← θ − α·m",
        _OUTSIDE,
        "",
        "1",
        _SETTLED,
        "sgd(learning_rate, beta)",
        "",
        "google-deepmind/optax v0.2.8, optax/transforms/_accumulation.py",
    ),
    Phrase(
        "Optax, sgd(nesterov=True)",
        "m ← g + β·m; θ ← θ − α·(g + β·m)",
        _OUTSIDE,
        "",
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True)",
        "",
        "google-deepmind/optax v0.2.8, optax/transforms/_accumulation.py",
    ),
    Phrase(
        "Optax, ema",
        "m ← (1 − β)·g + β·m; θ ← θ − α·m/(1 − βᵗ)",
        _OUTSIDE,
        "",
        "1",
        "1",
        f"optax.chain(ema(beta, debias=True), {_SCALED})",
        "With debias=False the first step is 1 − β. 1 − βᵗ is kept in float32 here, so "
        "in float64 both agree to 8 digits.",
        "google-deepmind/optax v0.2.8, optax/transforms/_accumulation.py",
    ),
    Phrase(
        "JAX, example_libraries.optimizers.momentum",
        "v ← β·v + g; θ ← θ − α·v",
        _OUTSIDE,
        "",
        "1",
        _SETTLED,
        "sgd(learning_rate, beta)",
        "Its piecewise_constant has the old value at a boundary, Optax's the new one.",
        "jax-ml/jax 0.11.1, jax/example_libraries/optimizers.py",
    ),
    Phrase(
        "JAX, example_libraries.optimizers.nesterov",
        "v ← β·v + g; θ ← θ − α·(β·v + g)",
        _OUTSIDE,
        "",
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True)",
        "",
        "jax-ml/jax 0.11.1, jax/example_libraries/optimizers.py",
    ),
    Phrase(
        "Caffe, SGD solver",
        "v ← β·v + α·g; θ ← θ − v",
        _INSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        _coupled_keras(),
        "Clips the sum over iter_size passes, before it divides by their number.",
        "BVLC/caffe 9b89154, src/caffe/solvers/sgd_solver.cpp",
    ),
    Phrase(
        "Caffe, Nesterov solver",
        "v′ ← β·v + α·g; θ ← θ − ((1 + β)·v′ − β·v)",
        _INSIDE,
        _COUPLED,
        "1 + β",
        _SETTLED,
        _coupled_keras(", nesterov=True"),
        "",
        "BVLC/caffe 9b89154, src/caffe/solvers/nesterov_solver.cpp",
    ),
    Phrase(
        "Caffe2, MomentumSGDUpdate",
        "v ← β·v + α·g; θ ← θ − v",
        _INSIDE,
        "",
        "1",
        _SETTLED,
        "keras(learning_rate, beta)",
        "nesterov=1 as in Caffe; it is the default of its Python SgdOptimizer.",
        "facebookarchive/caffe2 v0.8.1, caffe2/sgd/momentum_sgd_op.h",
    ),
    Phrase(
        "Detectron, with momentum correction",
        "v ← (α/α′)·v if α differs more than 1.1 times from α′, the rate before; "
        "v ← β·v + α·g; θ ← θ − v",
        _INSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        _coupled_keras(", momentum_correction=True, correction_threshold=1.1"),
        "Biases have twice the gradient and no decay. After a rate below 10⁻⁷ it does "
        "not correct; here v restarts after a rate of 0.",
        "facebookresearch/Detectron 04155a0, detectron/modeling/detector.py",
    ),
    Phrase(
        "MXNet, SGD",
        "v ← β·v − α·g; θ ← θ + v",
        _INSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        _coupled_keras(),
        "clip_gradient clips g before the decay is added.",
        "apache/mxnet 1.3.1 to 2.0.0, src/operator/optimizer_op-inl.h",
    ),
    Phrase(
        "MXNet, NAG up to 1.4",
        "m ← β·m + g; θ ← θ − α·(g + β·m)",
        _OUTSIDE,
        _COUPLED,
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True, weight_decay=weight_decay)",
        "",
        "apache/mxnet 1.4.1, python/mxnet/optimizer/optimizer.py",
    ),
    Phrase(
        "MXNet, NAG of 1.5",
        "m ← β·m + g + λ·θ; θ ← θ − α·(β·m + g)",
        _OUTSIDE,
        "into the buffer, but not into the gradient that is added to it",
        "1 + β",
        _SETTLED,
        f"optax.chain({_DECAYED_GRADIENT}, heavy_ball(beta, nesterov=True), "
        f"optax.add_decayed_weights(-weight_decay), {_SCALED})",
        "",
        "apache/mxnet 1.5.1, src/operator/optimizer_op-inl.h",
    ),
    Phrase(
        "MXNet, NAG from 1.6 on",
        "v ← β·v − α·g; θ ← θ + β·v − α·g",
        _INSIDE,
        _COUPLED,
        "1 + β",
        _SETTLED,
        _coupled_keras(", nesterov=True"),
        "As version 2.0 computes it. 1.6 to 1.9 update θ in place before its decay "
        "enters the buffer, so there λ multiplies the new θ.",
        "apache/mxnet 2.0.0, src/operator/optimizer_op-inl.h",
    ),
    Phrase(
        "Paddle 2, Momentum",
        "m ← β·m + g; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        "sgd(learning_rate, beta, weight_decay=weight_decay)",
        "Its dense CPU kernel ignores rescale_grad.",
        "PaddlePaddle/Paddle 0ab6998, paddle/phi/kernels/impl/momentum_kernel_impl.h",
    ),
    Phrase(
        "Paddle 2, Momentum(use_nesterov=True)",
        "m ← β·m + g; θ ← θ − α·(g + β·m)",
        _OUTSIDE,
        _COUPLED,
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True, weight_decay=weight_decay)",
        "Before July 2018 it subtracted β·m, which climbs for β above ½.",
        "PaddlePaddle/Paddle 0ab6998, paddle/phi/kernels/impl/momentum_kernel_impl.h",
    ),
    Phrase(
        "Paddle 1, momentum",
        "v ← β·v − α·g; θ ← θ + v",
        _INSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        _coupled_keras(),
        "",
        "PaddlePaddle/Paddle 286c3df, paddle/parameter/FirstOrderOptimizer.h",
    ),
    Phrase(
        "Paddle 1, torch_momentum",
        "v ← β·v − α·(1 − β)·g, but v ← −α·g at the first step; θ ← θ + v",
        _INSIDE,
        _COUPLED,
        "1",
        "1",
        f"optax.chain({_DECAYED_GRADIENT}, linear_momentum(lambda step: Coefficients("
        "beta, -learning_rate(step) * jnp.where(step == 0, 1, 1 - beta))))",
        "After a restart its first step is undamped again.",
        "PaddlePaddle/Paddle 286c3df, paddle/parameter/FirstOrderOptimizer.h",
    ),
    Phrase(
        "MindSpore, nn.Momentum",
        "m ← β·m + g; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        "sgd(learning_rate, beta, weight_decay=weight_decay)",
        "Parameters named beta or gamma have no decay. Its CPU kernel ignores "
        "use_nesterov.",
        "mindspore-ai/mindspore 09fe5b6, "
        "mindspore/python/mindspore/nn/optim/momentum.py",
    ),
    Phrase(
        "MindSpore, nn.SGD",
        "m ← β·m + (1 − τ)·g, but m ← g at the first step; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1",
        "(1 − τ)/(1 − β)",
        "sgd(learning_rate, beta, dampening=dampening, weight_decay=weight_decay)",
        "",
        "mindspore-ai/mindspore 0f6ce6c, mindspore/python/mindspore/nn/optim/sgd.py",
    ),
    Phrase(
        "MLX, SGD",
        "m ← β·m + (1 − τ)·g, at the first step too; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1 − τ",
        "(1 − τ)/(1 − β)",
        f"optax.chain({_DECAYED_GRADIENT}, linear_momentum(lambda step: "
        f"Coefficients(beta, 1 - dampening)), {_SCALED})",
        "",
        "ml-explore/mlx from v0.2.0 on, python/mlx/optimizers/optimizers.py",
    ),
    Phrase(
        "tinygrad, SGD",
        "m ← β·m + g; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        "sgd(learning_rate, beta, weight_decay=weight_decay)",
        "",
        "tinygrad/tinygrad v0.13.0, tinygrad/nn/optim.py",
    ),
    Phrase(
        "tinygrad, SGD(classic=True)",
        "m ← β·m + α·g; θ ← θ − m",
        _INSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        _coupled_keras(),
        "",
        "tinygrad/tinygrad v0.13.0, tinygrad/nn/optim.py",
    ),
    Phrase(
        "Sonnet 2, Momentum",
        "m ← β·m + g; θ ← θ − α·m",
        _OUTSIDE,
        "",
        "1",
        _SETTLED,
        "sgd(learning_rate, beta)",
        "",
        "google-deepmind/sonnet v2.0.2, sonnet/src/optimizers/momentum.py",
    ),
    Phrase(
        "Haiku, ImageNet example",
        "m ← g + β·m; θ ← θ − α·(g + β·m), with λ·‖θ‖²/2 in the loss",
        _OUTSIDE,
        _COUPLED,
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True, weight_decay=weight_decay)",
        "Modules of BatchNorm have no decay.",
        "google-deepmind/dm-haiku f4d858a, examples/imagenet/train.py",
    ),
    Phrase(
        "fastai, SGD",
        "m ← β·m + g; θ ← θ − α·λ·θ − α·m",
        _OUTSIDE,
        _DECOUPLED,
        "1",
        _SETTLED,
        'sgd(learning_rate, beta, weight_decay=weight_decay, decay="decoupled")',
        "",
        "fastai/fastai 0a20fa1, fastai/optimizer.py",
    ),
    Phrase(
        "fastai, SGD(decouple_wd=False)",
        "m ← β·m + g; θ ← θ − α·m",
        _OUTSIDE,
        _COUPLED,
        "1",
        _SETTLED,
        "sgd(learning_rate, beta, weight_decay=weight_decay)",
        "",
        "fastai/fastai 0a20fa1, fastai/optimizer.py",
    ),
    Phrase(
        "fastai, average_grad(dampening=True)",
        "m ← β·m + (1 − β)·g; θ ← θ − α·m",
        _OUTSIDE,
        "",
        "1 − β",
        "1",
        f"optax.chain(ema(beta), {_SCALED})",
        "",
        "fastai/fastai 0a20fa1, fastai/optimizer.py",
    ),
    Phrase(
        "autograd, misc.optimizers.sgd",
        "v ← β·v − (1 − β)·g; θ ← θ + α·v",
        _OUTSIDE,
        "",
        "1 − β",
        "1",
        f"optax.chain(ema(beta), {_SCALED})",
        "",
        "HIPS/autograd v1.9.1, autograd/misc/optimizers.py",
    ),
    Phrase(
        "Muon, its momentum (KellerJordan, DeepSpeed)",
        "m ← m + (1 − β)·(g − m); θ ← θ − α·λ·θ − α·(g + β·(m − g))",
        _OUTSIDE,
        _DECOUPLED,
        "1 − β²",
        "1",
        f"optax.chain(qhm(beta, nu=beta), {_DECAYED_GRADIENT}, {_SCALED})",
        "Muon orthogonalizes what is read from the buffer: put that after qhm.",
        "KellerJordan/Muon 857d1ad, muon.py",
    ),
    Phrase(
        "timm, SGDW(nesterov=True)",
        "m ← β·m + g; θ ← θ − α·λ·θ − α·(g + β·m)",
        _OUTSIDE,
        _DECOUPLED,
        "1 + β",
        _SETTLED,
        "sgd(learning_rate, beta, nesterov=True, weight_decay=weight_decay, "
        'decay="decoupled")',
        "corrected_weight_decay multiplies λ by α over the rate of the constructor.",
        "huggingface/pytorch-image-models aa4b585, timm/optim/sgdw.py",
    ),
    Phrase(
        "Flux and Lux (Optimisers.jl), Momentum",
        "m ← β·m + α·g; θ ← θ − m",
        _INSIDE,
        "g ← g + λ·θ, by WeightDecay before it in a chain",
        "1",
        _SETTLED,
        _coupled_keras(),
        "",
        "FluxML/Optimisers.jl v0.4.8, src/rules.jl",
    ),
    Phrase(
        "Flux and Lux (Optimisers.jl), Nesterov",
        "θ ← θ + β²·v − (1 + β)·α·g; v ← β·v − α·g",
        _INSIDE,
        "g ← g + λ·θ, by WeightDecay before it in a chain",
        "1 + β",
        _SETTLED,
        _coupled_keras(", nesterov=True"),
        "",
        "FluxML/Optimisers.jl v0.4.8, src/rules.jl",
    ),
)
