"""The records of TensorBoard's event files, as bytes: of equal arguments always the same ones.

tag: the name of a curve. at: seconds since 1970. Importing this module imports tensorboard, and neither TensorFlow nor
torch.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_FAILURE,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    NULL_TENSOR,
    PLUGIN_DATA_VERSION,
    PLUGIN_NAME,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from raytune_hpo.errors import encodable


def opening(at: float) -> bytes:
    """What a file begins with."""
    return _record(Event(wall_time=at, file_version="brain.Event:2"))


def scalars(at: float, epoch: int, values: Mapping[str, float]) -> bytes:
    """Single precision is all that a scalar has there: what is beyond it is infinite."""
    found = [Summary.Value(tag=encodable(tag), simple_value=value) for tag, value in values.items()]
    return _record(Event(wall_time=at, step=epoch, summary=Summary(value=found)))


def goes_on(at: float, epoch: int) -> bytes:
    """From here on the curves go on at `epoch`: what was written of it, and of those after it, does not count. To some
    of TensorBoard's readers the first such record of a trial says nothing."""
    return _record(Event(wall_time=at, step=epoch, session_log=SessionLog(status=SessionLog.START)))


def experiment(at: float, name: str, kinds: Mapping[str, type], metrics: Mapping[str, str]) -> bytes:
    """What the hparams page shows. kinds: of a value of the config, bool, float or str, by its path. metrics: tag ->
    how it is called."""
    types = {bool: DATA_TYPE_BOOL, float: DATA_TYPE_FLOAT64, str: DATA_TYPE_STRING}
    said = Experiment(
        name=encodable(name),
        time_created_secs=at,
        hparam_infos=[HParamInfo(name=encodable(path), type=types[kind]) for path, kind in kinds.items()],
        metric_infos=[
            MetricInfo(name=MetricName(tag=encodable(tag)), display_name=encodable(shown))
            for tag, shown in metrics.items()
        ],
    )
    return _hparams(at, EXPERIMENT_TAG, HParamsPluginData(experiment=said))


def started(at: float, config: Mapping[str, bool | float | str]) -> bytes:
    """config: by path; numbers that are not finite as texts."""
    said = SessionStartInfo(start_time_secs=at)
    for path, value in config.items():
        place = said.hparams[encodable(path)]
        if isinstance(value, bool):
            place.bool_value = value
        elif isinstance(value, str):
            place.string_value = encodable(value)
        else:
            place.number_value = value
    return _hparams(at, SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=said))


def ended(at: float, *, well: bool) -> bytes:
    said = SessionEndInfo(status=STATUS_SUCCESS if well else STATUS_FAILURE, end_time_secs=at)
    return _hparams(at, SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=said))


def _hparams(at: float, tag: str, said: HParamsPluginData) -> bytes:
    # (Theirs, create_summary_metadata, writes the values of a config in any order.)
    said.version = PLUGIN_DATA_VERSION
    content = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=said.SerializeToString(deterministic=True))
    value = Summary.Value(tag=tag, tensor=NULL_TENSOR, metadata=SummaryMetadata(plugin_data=content))
    return _record(Event(wall_time=at, summary=Summary(value=[value])))


def _record(event: Event) -> bytes:
    framed = io.BytesIO()
    RecordWriter(framed).write(event.SerializeToString(deterministic=True))
    return framed.getvalue()
