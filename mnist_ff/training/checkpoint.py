"""Weights and training state to files and back. Only tensors and plain containers are unpickled."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import pickletools
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.optim import Optimizer

from mnist_ff.config.schema import Config, ModelConfig, OptimizerConfig
from mnist_ff.errors import BadRunError, MissingFileError, RunError
from mnist_ff.files import replacing, write_bytes
from mnist_ff.models.build import StateEntry, described_state
from mnist_ff.models.parts.mlp import MLPConfig
from mnist_ff.models.user_module import must_be_finite
from mnist_ff.optim.optimizers import build_optimizer, complete_state, optimizer_part
from mnist_ff.runs.directory import CHECKPOINT, PREVIOUS, Run
from mnist_ff.runs.reading import check_file, is_file, is_taken, read_bytes
from mnist_ff.runs.records import DataSpec, Position
from mnist_ff.runs.tensors import FLOAT_TYPES, Wanted, check_tensors, opened_tensors

DAMAGED = "checkpoint.damaged.pt"
SEAL = b"mnist-ff sha256\n"
"""Marks the SHA-256 at the end of a checkpoint. torch.load ignores what follows the zip archive."""
SLACK = 16 << 20
"""Maximum size of a file beyond its tensors, in bytes."""
LARGEST_PICKLE = 8 << 20
"""Maximum size of a checkpoint's pickle, in bytes. An epoch of 60,000 batches takes 2 MB."""
MOST_ENTRIES = 100_000
"""Maximum number of files in a checkpoint's zip archive."""
LARGEST_GENERATOR = 1 << 20
"""Maximum size of a random generator's state, in bytes. A CPU generator takes 5 KB."""
MAKES = re.compile(r"torch\._utils _rebuild_tensor_v2|torch \w+Storage|collections OrderedDict")
"""Globals that a checkpoint's pickle may call, in the notation of pickletools."""
KEYS = {"epoch", "batches", "model", "optimizer", "dropout", "device", "recipe"}
LATER = ("augment", "average", "best", "generators", "seconds")
"""Keys that checkpoints of older versions lack. They are read as None."""


@dataclass(frozen=True)
class TrainingState:
    """What a run is resumed from."""

    position: Position
    recipe: str
    """The digest of the config's keys that define the experiment."""
    learner: Mapping[str, Any]
    """The learner's state_dict()."""
    best: dict[str, torch.Tensor] | None = None
    """The weights of the best epoch so far, if trainer.keep_best is set."""
    seconds: float = 0.0
    """Seconds of training so far, as trainer.max_seconds counts them."""


@contextmanager
def saving_checkpoint(run: Run, state: TrainingState, given_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Write the training state to a temporary file with its SHA-256; the end of the block makes it the checkpoint.

    The previous checkpoint is kept until the next one. If `given_up` returns True, no new file is made.
    Errors: GivenUpError in that case; OSError.
    """
    values = {
        "epoch": state.position.epoch,
        "batches": [(record.loss, record.correct, record.lr) for record in state.position.batches],
        **{key: state.learner[key] for key in ("model", "optimizer", "dropout", "device")},
        **{key: state.learner[key] for key in ("augment", "average", "generators")},
        **{key: getattr(state, key) for key in ("recipe", "best", "seconds")},
    }
    with replacing(run.file(CHECKPOINT), keep=run.file(PREVIOUS)) as temporary:
        with temporary.open("wb") as file:
            sealing = _Sealing(file, given_up)
            torch.save(values, sealing)  # type: ignore[arg-type]  # it needs write() and flush()
            sealing.seal()
        yield
        if given_up():
            raise GivenUpError


class GivenUpError(Exception):
    """A checkpoint was not finished, because a second signal ended the run."""


class _Sealing:
    """A file for torch.save() that computes the SHA-256 of everything written, and appends it.

    torch's archive writer is C++ code, through which no exception passes: seal() raises the error of a failed write.
    """

    def __init__(self, file: IO[bytes], given_up: Callable[[], bool]) -> None:
        self._file, self._given_up = file, given_up
        self._sum = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: memoryview) -> int:
        """Write some bytes, unless a write failed before."""
        if self._error is None and not self._given_up():
            self._sum.update(data)
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error
        return len(data)

    def flush(self) -> None:
        """Does nothing: seal() ends the file."""

    def seal(self) -> None:
        """Append the SHA-256. Errors: OSError, also of an earlier write."""
        if self._error is not None:
            raise self._error
        self._file.write(SEAL + self._sum.digest())


def load_checkpoint(run: Run, complain: Callable[[str], None]) -> dict[str, Any]:
    """The values of the newest intact checkpoint. A damaged one is renamed, and `complain` gets a message.

    A file that is too large for the run's network is not read.
    Errors: RunError if no checkpoint is intact, BadRunError if one contains more than tensors and plain values.
    """
    found = [run.file(name) for name in (CHECKPOINT, PREVIOUS) if is_taken(run.file(name))]
    limit = _most_bytes(run.config(), run.data_spec(), max(map(_bytes_of, found), default=0))
    for path in found:
        try:
            return _read(path, limit)
        except _DamagedError as error:
            complain(f"{path}: {error}" + ("; using the previous one" if path != found[-1] else ""))
            path.replace(run.file(DAMAGED))  # or the next save would keep it in the good one's place
    what = "no checkpoint is intact" if found else "has no checkpoint"
    raise RunError(f"{run.path}: {what}; the run cannot be resumed, but mnist-ff train --config-of repeats it")


class _DamagedError(Exception):
    """A checkpoint is not as it was written."""


def _most_bytes(config: Config, spec: DataSpec, found: int) -> int:
    """An upper limit of a checkpoint's size in bytes: weights, averages, best weights, and the optimizer's state.

    found: the size of the largest checkpoint file.
    """
    built_in = optimizer_part(config.optimizer.name).initial_state is not None
    each = 64 if built_in else 1024  # an optimizer of the user's may keep many earlier gradients
    return SLACK + each * sum(math.prod(shape) for shape in weight_shapes(config.model, spec, found).values())


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if is_file(path) else 0


def _read(path: Path, limit: int) -> dict[str, Any]:
    try:
        whole = read_bytes(path, limit)
    except BadRunError as error:
        if not path.is_symlink() and (not is_file(path) or "cannot be read" in str(error)):
            raise _DamagedError(str(error).removeprefix(f"{path}: ")) from None
        raise
    content, seal, digest = whole.rpartition(SEAL)
    sealed = bool(seal) and digest == hashlib.sha256(content).digest()
    if not sealed and not _is_archive(whole):
        raise _DamagedError("is damaged")
    try:
        archive = io.BytesIO(content if sealed else whole)
        _check_archive(archive)
        values = torch.load(archive, weights_only=True, map_location="cpu")
    except Exception:  # what is no checkpoint fails in many ways
        if seal and not sealed:
            raise _DamagedError("is damaged") from None
        raise BadRunError(f"{path}: contains more than tensors and plain values; it was not loaded") from None
    if not isinstance(values, dict) or not values.keys() >= KEYS:
        raise BadRunError(f"{path}: is not a valid checkpoint; it was not used")
    if not sealed:
        raise _DamagedError("is damaged")
    values = {**dict.fromkeys(LATER), **values}
    try:
        _check_types(values)
    except ValueError as error:
        raise BadRunError(f"{path}: is not a valid checkpoint ({error}); it was not used") from None
    return values


def _is_archive(whole: bytes) -> bool:
    """Whether the bytes are a whole zip or tar archive or a pickle: a foreign file rather than a damaged checkpoint."""
    archive = zipfile.is_zipfile(io.BytesIO(whole)) or tarfile.is_tarfile(io.BytesIO(whole))
    return archive or whole[:1] == pickle.PROTO


def _check_archive(file: io.BytesIO) -> None:
    """Check that an archive was made by torch.save(): no file in it is compressed, so that it takes no more memory than
    it has bytes, and its pickle creates only tensors and containers. Errors: ValueError, BadZipFile."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > len(file.getbuffer()):
            raise ValueError("it is not in the format of torch.save()")
        (pickled,) = (entry for entry in entries if entry.filename.endswith("/data.pkl"))
        if pickled.file_size > LARGEST_PICKLE:
            raise ValueError("its pickle is too large")
        content = archive.read(pickled)
    for operation, argument, _ in pickletools.genops(content):
        if "GLOBAL" in operation.name and not MAKES.fullmatch(str(argument)):
            raise ValueError(f"it would make {argument}")
    file.seek(0)


def _check_types(values: Mapping[str, Any]) -> None:
    """Check the types of a checkpoint's values. Errors: ValueError naming the key."""
    epoch, batches, optimizer = values["epoch"], values["batches"], values["optimizer"]
    good = {
        "epoch": type(epoch) is int and epoch >= 0,
        "batches": isinstance(batches, list | tuple) and all(map(_is_batch, batches)),
        "model": _are_tensors(values["model"]),
        "optimizer": isinstance(optimizer, dict)
        and isinstance(optimizer.get("state"), dict)
        and isinstance(optimizer.get("param_groups"), list)
        and all(map(_is_state, optimizer["state"].values())),
        "device": isinstance(values["device"], str),
        "recipe": isinstance(values["recipe"], str),
        **{key: values[key] is None or _is_generator(values[key]) for key in ("dropout", "augment")},
        **{key: values[key] is None or _are_tensors(values[key]) for key in ("average", "best")},
        "seconds": type(values["seconds"]) in (float, type(None)) and 0 <= (values["seconds"] or 0) < math.inf,
        "generators": values["generators"] is None or _are_generators(values["generators"]),
    }
    for key, fits in good.items():
        if not fits:
            raise ValueError(f"its {key} has the wrong type")


def _is_batch(values: Any) -> bool:
    """Whether a batch is (loss, correct predictions, rate): finite numbers and a count."""
    if not isinstance(values, list | tuple) or list(map(type, values)) != [float, int, float]:
        return False
    loss, correct, rate = values
    return math.isfinite(loss) and math.isfinite(rate) and 0 <= correct < 1 << 31


def _are_tensors(values: Any) -> bool:
    return isinstance(values, dict) and all(
        isinstance(name, str) and _is_tensor(value) for name, value in values.items()
    )


def _is_tensor(value: Any) -> bool:
    """Whether a value is a dense, real tensor whose storage holds all its elements. An expanded tensor could
    take more memory than its file has."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_complex():
        return False
    return value.untyped_storage().nbytes() >= value.numel() * value.element_size()


def _is_state(values: Any) -> bool:
    """Whether an optimizer's state of a parameter consists of tensors, numbers, None, and lists of these."""
    return isinstance(values, dict) and all(map(_is_kept, values.values()))


def _is_kept(value: Any) -> bool:
    if isinstance(value, list | tuple):  # such as the earlier gradients of L-BFGS
        return all(map(_is_kept, value))
    return value is None or isinstance(value, bool | int | float) or _is_tensor(value)


def _is_generator(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype is torch.uint8 and value.numel() < LARGEST_GENERATOR


def _are_generators(values: Any) -> bool:
    return isinstance(values, dict) and all(
        isinstance(name, str) and _is_generator(value) for name, value in values.items()
    )


def load_optimizer(optimizer: Optimizer, values: dict[str, Any], config: OptimizerConfig) -> None:
    """Load saved state into an optimizer and check that it fits, which torch does not. A built-in optimizer keeps the
    options of the config.

    Errors: ValueError for state of another optimizer or engine.
    """
    kinds = _kinds_of_state(config)
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(values)
    complete_state(optimizer, config.name)  # an older checkpoint of the start may have none
    for group, own in zip(optimizer.param_groups, options, strict=True):
        if kinds is None:  # a user's optimizer may change its options in each step: restore all but the learning rate
            group["lr"] = own["lr"]
            continue
        if group.keys() != {"params", *own}:
            raise ValueError("the optimizer's options differ")
        group.update(own)  # the config decides; a CUDA graph reads the learning rate from this very tensor
    if kinds is None:
        return
    for parameter, state in optimizer.state.items():
        found = {name: value.dtype for name, value in state.items() if value is not None}
        own = {name: found.get(name) if found.get(name) == parameter.dtype else kind for name, kind in kinds.items()}
        if found and found != own:  # the state of a parameter that is not float32 has the parameter's type
            raise ValueError("the optimizer's state is of another optimizer")
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape not in ((), (1,), parameter.shape):
                shape = "x".join(map(str, value.shape))
                raise ValueError(f"the optimizer's {name} has shape {shape} for {parameter.numel()} numbers")
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                # with the parameter's strides, whatever the file has: torch's fused updates ignore strides
                state[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _kinds_of_state(config: OptimizerConfig) -> dict[str, torch.dtype] | None:
    """The dtypes of an optimizer's state of a parameter, by name, from a trial step on one parameter of one element.

    None if they are not known, as for users' own optimizers.
    """
    if optimizer_part(config.name).initial_state is None:
        return None
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    optimizer = build_optimizer(config, [parameter])
    optimizer.step()
    return {name: value.dtype for name, value in optimizer.state[parameter].items() if value is not None}


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights and buffers as safetensors, by the names of its state_dict.

    Tensors that share their memory, as tied weights do, are written under each name.
    """
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(weights))


def weight_shapes(config: ModelConfig, spec: DataSpec, most: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, by the names of its state_dict."""
    return {name: entry.shape for name, entry in _entries(config, spec, most).items()}


def _entries(config: ModelConfig, spec: DataSpec, most: int) -> dict[str, StateEntry]:
    """The types and shapes of a network's tensors, by the names of its state_dict. An MLP is not built for this."""
    if not isinstance(config, MLPConfig):
        return described_state(config, spec, most)
    sizes = list(enumerate(pairwise([spec.inputs, *config.hidden, len(spec.classes)])))
    weights = {f"layers.{place}.weight": StateEntry(FLOAT_TYPES, (after, before)) for place, (before, after) in sizes}
    return weights | {f"layers.{place}.bias": StateEntry(FLOAT_TYPES, (after,)) for place, (_, after) in sizes}


def check_weights(path: Path, config: ModelConfig, spec: DataSpec) -> None:
    """Check that a file holds the tensors of this network, before memory is allocated for either.

    Errors: BadRunError naming the file.
    """
    check_entries(path, _entries(config, spec, _bytes_of(path)))


def check_entries(path: Path, entries: Mapping[str, StateEntry]) -> None:
    """Check that a file holds these tensors. Errors: BadRunError naming the file."""
    try:
        with opened_tensors(path, SLACK + 8 * sum(math.prod(entry.shape) for entry in entries.values())) as saved:
            check_tensors(saved, {name: Wanted(entry.kinds, entry.shape) for name, entry in entries.items()})
            if len(saved.keys()) > len(entries):
                raise ValueError("it has more tensors than the run's network")
    except MissingFileError:
        raise BadRunError(f"{path.parent}: has no {path.name}; the run did not end normally") from None


def load_weights(path: Path, model: nn.Module) -> None:
    """Load saved weights into `model`. Tied weights may have several names.

    Errors: BadRunError naming the file if they do not fit or cannot be read.
    """
    finite = must_be_finite(model)
    try:
        check_file(path)
        model.load_state_dict(load_file(path))
    except MissingFileError:
        raise BadRunError(f"{path.parent}: has no {path.name}; the run did not end normally") from None
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise BadRunError(f"{path}: {str(error).splitlines()[0]}") from None
    weights = model.state_dict()
    if not all(bool(weights[name].isfinite().all()) for name in finite):
        raise BadRunError(f"{path}: gives NaN or infinity for some images; train the run again")
