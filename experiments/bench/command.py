"""The command `bench`, which runs one of the benchmarks."""

from rich.console import Console

from experiments.bench.accuracy import bench_accuracy
from experiments.bench.memory import bench_memory
from experiments.bench.options import Bench
from experiments.bench.recipe import bench_recipe
from experiments.bench.scaling import bench_scaling
from experiments.bench.shuffling import bench_shuffling
from experiments.bench.speedrun import bench_speedrun
from experiments.bench.sweep import bench_sweep
from experiments.bench.train import bench_train
from experiments.bench.update import bench_update
from experiments.distributed.environment import find_devices
from experiments.records.config import UsageError


def bench(options: Bench, _: Console) -> None:
    """Measures, prints JSON lines to stdout and a table to stderr.

    Raises:
      UsageError: JAX can't start, or the peers' interpreter is missing or lacks the
        libraries.
    """
    for name in ("model", "problem"):
        if getattr(options, name) is not None and options.what != "train":
            raise UsageError(
                f"--{name} applies to bench train; omit it, or measure train."
            )
    if options.epochs is not None and options.what != "recipe":
        raise UsageError("--epochs applies to bench recipe; omit it.")
    find_devices()
    match options.what:
        case "train":
            bench_train(options.peers, options.model, options.problem)
        case "update":
            bench_update(options.peers)
        case "sweep":
            bench_sweep(options.peers)
        case "memory":
            bench_memory()
        case "accuracy":
            bench_accuracy(options.peers, options.data_dir)
        case "scaling":
            bench_scaling()
        case "shuffling":
            bench_shuffling(options.peers, options.data_dir)
        case "recipe":
            bench_recipe(options.peers, options.data_dir, options.epochs)
        case "speedrun":
            bench_speedrun(options.peers)
