"""What TensorBoard would read: every figure of every run, at its epoch, once."""

import math
import struct
import sys
from dataclasses import replace

import pytest
from support.measures import by_error
from support.synthetic import diverged, synthetic_run
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from experiments.records.config import UsageError
from experiments.reporting.tensorboard import write_events

SPLITS = "train", "validation", "test"

# Made when they are imported, which a type checker doesn't see.
Event = vars(event_pb2)["Event"]
HParamsPluginData = vars(plugin_hparams_pb2)["HParamsPluginData"]


def events(directory):
    """The events of all files there: each is framed by its length and two checksums."""
    for path in directory.iterdir():
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def scalars(directory):
    """Tag ↦ epoch ↦ value."""
    found = {}
    for event in events(directory):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert event.step not in found.setdefault(value.tag, {})
                found[value.tag][event.step] = value.simple_value
    return found


def directory_of(output, run):
    (found,) = (output / "tensorboard").glob(f"*{run.config_hash}")
    return found


def test_event_files_hold_every_figure_at_its_epoch(tmp_path):
    run = synthetic_run("ema", seed=3, epochs=3, test_accuracy=0.625)
    write_events(tmp_path, [run, synthetic_run("sgd")])
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    found = scalars(directory_of(tmp_path, run))
    for field in run.epochs[0]._fields:
        values = [getattr(epoch, field) for epoch in run.epochs]
        name = field.replace("metric", "accuracy")
        assert found[name] == pytest.approx(dict(enumerate(values, start=1)))
    assert found["test_accuracy"] == {3: 0.625}
    assert found["test_loss"] == pytest.approx({3: 1.234})


def test_event_files_name_another_metric(tmp_path):
    run = by_error(synthetic_run(test_accuracy=0.625))
    write_events(tmp_path, [run])
    found = scalars(directory_of(tmp_path, run))
    splits = {f"{split}_{kind}" for split in SPLITS for kind in ("loss", "rmse")}
    assert found.keys() == splits
    assert found["test_rmse"] == {3: 3.75}
    of_loss = replace(run, metric="loss")  # whose values have their names anyway
    write_events(tmp_path / "loss", [of_loss])
    found = scalars(directory_of(tmp_path / "loss", of_loss))
    assert found["test_loss"] == pytest.approx({3: 1.234})
    assert found["test_metric"] == {3: 3.75}


def test_event_files_hold_the_config_as_hyperparameters(tmp_path):
    run = synthetic_run("keras", dataset="caf\udce9.npz", batch_size=48)
    write_events(tmp_path, [run])
    settings = {}
    for event in events(directory_of(tmp_path, run)):
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                content = value.metadata.plugin_data.content
                plugin = HParamsPluginData.FromString(content)
                settings = plugin.session_start_info.hparams
    assert settings["batch_size"].number_value == 48
    assert settings["arm"].string_value == "keras"
    assert settings["dataset"].string_value == r"caf\udce9.npz"


def test_event_files_of_the_same_runs_are_replaced(tmp_path):
    run = synthetic_run("ema")
    write_events(tmp_path, [run])
    (file,) = directory_of(tmp_path, run).iterdir()
    file.rename(file.with_name("events.out.tfevents.1234567890.elsewhere"))
    write_events(tmp_path, [run])
    assert sorted(scalars(directory_of(tmp_path, run))["train_loss"]) == [1, 2, 3]


def test_event_file_of_a_diverged_run_ends_where_it_diverged(tmp_path):
    run = diverged(synthetic_run("ema"))
    write_events(tmp_path, [run])
    found = scalars(directory_of(tmp_path, run))
    assert list(found["train_loss"]) == [1]
    assert "test_loss" not in found
    assert not any(math.isnan(x) for own in found.values() for x in own.values())


def test_event_files_stay_in_their_directory_whatever_the_arm_is_called(tmp_path):
    run = synthetic_run("../../<arm>/..", test_accuracy=0.5)
    write_events(tmp_path, [run])
    (found,) = (tmp_path / "tensorboard").iterdir()
    assert found.name == f"-arm--{run.config_hash}"
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]


def test_event_files_without_tensorboardx_name_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match=r"pip install 'tensorboardX>=2.6,<3'"):
        write_events(tmp_path, [synthetic_run()])


def test_event_files_that_cannot_be_written_are_one_clear_line(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(UsageError, match=r"can't be written: (Not a dir|File exists)"):
        write_events(tmp_path, [synthetic_run()])
