"""Names of keys in Keras, PyTorch, Lightning, ultralytics and scikit-learn, and our names for them.

Messages about unknown keys, flags and commands take their suggestions from here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from mnist_ff.config.defaults import built_in_groups, default_options
from mnist_ff.config.keys import choices, hints_at, hints_of, known_keys, sweep_keys
from mnist_ff.config.messages import nearest
from mnist_ff.config.passwords import holds_password
from mnist_ff.config.registry import GROUPS, parts
from mnist_ff.config.schema import SELECTIONS
from mnist_ff.errors import ConfigError

WORDS = {
    "data": "dataset datamodule",
    "data.validation_split": "val_split valid_split validation_fraction val_fraction val_size validation_size holdout",
    "data.root": "data_dir cache_dir",
    "model": "net network arch architecture",
    "model.hidden": "units hidden_units hidden_layers hidden_layer_sizes hidden_size hidden_sizes hidden_dim "
    "hidden_dims layers num_layers n_layers num_units neurons width depth dense layer_sizes",
    "model.dropout": "dropout_rate drop_rate drop dropout_prob dropout_p p_drop",
    "model.activation": "act activations activation_function activation_fn nonlinearity",
    "model.init": "initializer kernel_initializer weight_init initialization init_weights",
    "optimizer": "optim opt solver optimiser",
    "optimizer.lr": "learning_rate lr0 base_lr initial_lr init_lr learning_rate_init max_lr eta",
    "optimizer.momentum": "mom sgd_momentum",
    "optimizer.nesterov": "nesterovs_momentum use_nesterov",
    "optimizer.weight_decay": "wd decay l2 l2_reg l2_penalty kernel_regularizer regularization",
    "optimizer.eps": "epsilon adam_epsilon",
    "optimizer.beta1": "b1 betas adam_beta1",
    "optimizer.beta2": "b2 adam_beta2",
    "schedule": "scheduler lr_scheduler lr_schedule learning_rate_schedule sched cos_lr lr_scheduler_type "
    "reduce_lr_on_plateau",
    "schedule.final": "lrf eta_min min_lr final_lr end_lr min_learning_rate",
    "schedule.factor": "gamma lr_gamma drop_factor",
    "schedule.at": "step_size milestones decay_epochs lr_steps",
    "schedule.warmup": "warmup_steps num_warmup_steps lr_warmup warmup_iters",
    "augment": "augmentation augmentations data_augmentation aug transform transforms",
    "augment.rotation": "degrees rotate rotation_range",
    "augment.shift": "translate width_shift_range height_shift_range",
    "trainer.epochs": "max_epochs num_epochs n_epochs nb_epoch num_train_epochs max_iter n_iter",
    "trainer.batch_size": "batch bs minibatch mini_batch_size train_batch_size per_device_train_batch_size nbatch",
    "trainer.device": "gpu gpus cuda accelerator devices use_gpu use_cuda num_gpus n_gpu n_gpus device_type",
    "trainer.precision": "amp half fp16 bf16 mixed_precision dtype use_amp",
    "trainer.threads": "num_threads n_threads cpus intra_op_threads",
    "trainer.compile": "torch_compile jit jit_compile",
    "trainer.patience": "early_stopping early_stop early_stopping_patience es_patience n_iter_no_change",
    "trainer.min_delta": "tol early_stopping_min_delta",
    "trainer.monitor": "metric_for_best_model watch",
    "trainer.keep_best": "save_best_only save_best restore_best_weights load_best_model_at_end save_top_k",
    "trainer.sync_every": "log_every_n_steps logging_steps log_interval log_freq print_every",
    "trainer.evaluate_every": "check_val_every_n_epoch validation_freq eval_every eval_interval val_interval "
    "val_check_interval",
    "trainer.checkpoint_epochs": "save_period every_n_epochs save_every save_freq",
    "trainer.checkpoint_every": "save_steps every_n_train_steps",
    "trainer.clip_norm": "gradient_clip_val max_grad_norm grad_clip clip_grad clip_grad_norm gradient_clip",
    "trainer.ema": "ema_decay use_ema weight_averaging swa",
    "trainer.label_smoothing": "smoothing label_smooth",
    "trainer.plots": "plot",
    "trainer.max_seconds": "max_time time time_limit timeout max_duration train_time",
    "trainer.target_accuracy": "target target_acc stop_at baseline stop_accuracy",
    "trainer.limit_batches": "limit_train_batches max_batches num_batches",
    "logger": "loggers tracker trackers report_to",
    "seed": "random_state random_seed manual_seed seed_everything rng",
    "name": "run_name exp_name experiment_name tag label run_id",
    "resume": "ckpt ckpt_path checkpoint checkpoint_path resume_from resume_from_checkpoint",
    "experiment": "recipe preset cfg config",
    "metrics": "metric",
    "hydra.run.dir": "output_dir out_dir output save_dir log_dir default_root_dir out",
}
"""A key or group, and the names that other libraries have for it."""

UNSUPPORTED = {
    "imgsz img_size image_size input_size": "images keep the size of the data, 28 x 28 for MNIST; "
    "data=folder data.size=[28,28] resizes pictures of your own",
    "verbose progress_bar enable_progress_bar": "a terminal shows a progress bar, a file one line per epoch; "
    "from Python: mnist_ff.train(verbose=0)",
    "loss criterion loss_fn loss_function": "the loss is cross-entropy; "
    "trainer.label_smoothing=0.1 and trainer.confidence_penalty=0.1 change it",
    "workers num_workers dataloader_num_workers pin_memory prefetch persistent_workers "
    "use_multiprocessing max_queue_size": "there is no data loader: "
    "the images are in device memory; trainer.threads=VALUE sets the CPU threads",
    "project": "type name=VALUE for a label, hydra.run.dir=FOLDER for a folder, "
    "or logger=wandb logger.wandb.project=VALUE",
    "exist_ok overwrite": "two runs never share a directory; hydra.run.dir=FOLDER names another one",
    "accumulate_grad_batches gradient_accumulation_steps accumulate nbs": "a larger trainer.batch_size does the same",
    "steps_per_epoch max_steps num_steps total_steps": "an epoch is all training images; type trainer.epochs=VALUE",
    "num_classes nc classes input_dim input_shape in_features": "the data determines it; mnist-ff data NAME shows it",
    "pretrained weights freeze warm_start initial_epoch": "a new run starts from random weights; "
    "resume=RUN trains a run further",
    "strategy num_nodes": "a run trains on one device; a sweep on several: mnist-ff train -m hydra/launcher=joblib",
    "wandb tensorboard mlflow": "type logger={word}",
    "fast_dev_run debug smoke_test dry": "type experiment=debug",
    "overfit_batches overfit": "type experiment=overfit",
    "warmup_epochs warmup_ratio": "schedule.warmup=BATCHES counts batches; an epoch of MNIST has 235",
    "fliplr flipud horizontal_flip vertical_flip random_flip mosaic close_mosaic mixup cutmix erasing": "a digit is "
    "not flipped or mixed; type augment=affine, augment=elastic or augment=both",
    "val validate do_eval limit_val_batches": "every epoch is followed by an evaluation; trainer.evaluate_every=2 "
    "makes it every second one",
    "save enable_checkpointing save_model save_weights_only": "every run saves its weights; "
    "trainer.checkpoint_epochs=1 sets how often",
    "bias use_bias batch_norm use_bn norm layer_norm": "model=mlp has no such key; a model of your own needs "
    "--parts FILE.py",
    "class_weight class_weights sample_weight": "all images count the same",
    "detect_anomaly terminate_on_nan": "a loss that is not finite ends a run anyway",
    "validation_data val_data": "type data.validation_split=0.1, or data=npz with x_val and y_val",
    "validation_batch_size val_batch_size eval_batch_size": "trainer.batch_size=VALUE is that of training; "
    "the score does not depend on one",
}
"""Names of settings that do not exist here, and what to do instead."""

COMMANDS = {
    "runs": "list ls ps jobs experiments history runs_list",
    "train": "fit run start main",
    "evaluate": "eval test val validate score",
    "predict": "infer inference classify detect",
    "train -m": "sweep tune hpo grid multirun",
    "train -m hydra/sweeper=optuna": "search optuna optimize",
    "train resume=last": "resume continue",
    "compare": "diff rank leaderboard best",
    "export": "convert save onnx",
    "report": "plot plots html page",
    "data": "download dataset datasets",
    "conf": "config configs options groups",
    "show": "keys key explain describe info",
    "bench": "benchmark speed time",
    "profile": "profiler prof trace timeline",
    "lr-find": "lr lrfind tuner find-lr",
    "serve": "ui view dashboard board tensorboard web",
    "--version": "version -v -V",
    "completion": "complete autocomplete",
}
"""Commands, and other names that people try."""


def _seconds(found: re.Match[str]) -> str:
    """00:01:30, 90s, 1.5m or 2h as seconds."""
    number, unit, clock = found["number"], found["unit"], found["clock"]
    if clock:
        return str(sum(int(part) * 60**place for place, part in enumerate(reversed(clock.split(":")))))
    return f"{float(number) * {'s': 1, 'm': 60, 'h': 3600}[unit]:g}"


PERCENT = {r"([1-9]\d?(?:\.\d+)?) ?%?": lambda found: f"{float(found[1]) / 100:.6g}"}

VALUES: Mapping[str, Mapping[str, str | Callable[[re.Match[str]], str]]] = {
    "trainer.device": {
        r"true|yes|on|gpu|cuda|1?|-1|auto\b": "cuda",
        r"false|no|off|none|null": "cpu",
        r"\[?(\d+)(?:,\d+)*\]?": r"cuda:\1",
    },
    "trainer.precision": {
        r"true|yes|on|1||16|half|b?fp?16|b?float16|b?f?16-mixed|b?f?16-true|mixed_b?float16": "bf16",
        r"false|no|off|32|32-true|float32|fp32": "fp32",
        r"64.*|float64|double": "fp32",
    },
    "trainer.patience": {r"true|yes|on|": "3", r"false|no|off": "null"},
    "trainer.keep_best": {r"\d+|": "true"},
    "trainer.ema": {r"true|yes|on|": "0.999", r"false|no|off": "0"},
    "model.hidden": {
        r"\d|": "[500,300]",
        r"[(]?([\d_, ]+?),?[)]?": lambda found: f"[{found[1].replace(' ', '')}]",
    },
    "model.activation": {r"swish": "silu", r"(\w+)": r"\1"},
    "model.init": {r"(?:xavier|glorot)(?:_uniform)?": "glorot_uniform", r"(?:kaiming|he)(?:_uniform)?": "he_uniform"}
    | {r"(?:xavier|glorot)_normal": "glorot_normal", r"(?:kaiming|he)_normal": "he_normal"},
    "resume": {r"true|yes|on|": "last"},
    "optimizer.lr": {r"constant|adaptive|invscaling|auto": "0.001"},
    "schedule.at": {r"(?!\[).*": "[0.5,0.75]"},
    "trainer.limit_batches": {r"0?\.\d+": "10", r"1\.0": "null"},
    "trainer.evaluate_every": {r"0?\.\d+|1\.0": "1"},
    "trainer.monitor": {r"val_(loss|accuracy)": r"validation_\1", r"val_acc": "validation_accuracy"},
    "trainer.max_seconds": {
        r"(?P<clock>\d+(?::\d\d){1,2})|(?P<number>\d+\.?\d*) ?(?P<unit>[smh])\w*": _seconds,
    },
    "trainer.target_accuracy": PERCENT,
    "data.validation_split": PERCENT,
    "schedule": {
        r".*cos.*|true|yes|on|": "cosine",
        r".*one.?cycle.*": "one_cycle",
        r".*linear.*|polynomial": "linear",
        r".*step.*": "step",
        r"false|no|off|none|null|constant.*": "constant",
    },
    "optimizer": {r"(\w+)": r"\1"},
}
"""Values that people try for a key, as patterns for the whole value in lower case, and our value for each. The empty
pattern stands for a flag without a value."""

INSTEAD: Mapping[str, Mapping[str, str]] = {
    "callbacks": {
        "earlystopping": "trainer.patience=3 does that",
        "modelcheckpoint|backupandrestore": "checkpoints are always written; "
        "trainer.checkpoint_epochs=1 sets how often, trainer.keep_best=true keeps the best",
        "reducelronplateau|(learningrate|lr)scheduler": "type schedule=cosine",
        "tensorboard": "type logger=tensorboard",
        "wandb.*": "type logger=wandb",
        "csvlogger|learningratemonitor|history": "batches.csv and epochs.csv are always written",
        "(tqdm|rich|)progressbar": "a terminal shows a bar anyway",
        "stochasticweightaveraging|ema.*": "trainer.ema=0.999 averages weights",
        "terminateonnan": "a loss that is not finite ends a run anyway",
        "timer": "trainer.max_seconds=60 does that",
    },
    "metrics": {
        "acc|accuracy|loss|.*accuracy": "loss and accuracy are always measured",
        "f1|precision|recall|confusion.*|auc": "mnist-ff evaluate shows precision, recall and F1 of each class",
        "ece|brier": "type metrics=[calibration]",
    },
    "schedule": {".*plateau.*": "did you mean cosine?"},
}
"""Options that people try for a group, as patterns for the whole of plain(option), and what to do instead."""


DEVICE_COUNTS = ("gpus", "devices", "numgpus", "ngpu", "ngpus")
"""Names of a number of devices, in the form of plain()."""


class Key(NamedTuple):
    """The meaning of a name from another library."""

    name: str
    """A key or group. Empty if there is none."""
    advice: str = ""
    """What to do if there is none."""


def plain(word: str) -> str:
    """A word in lower case with letters and digits only: Learning-Rate becomes learningrate."""
    return re.sub(r"[^a-z0-9]", "", word.lower())


def meant(word: str, known: Collection[str] = ()) -> Key | None:
    """The key or group that a word means, with or without a section before it. None if it is unknown.

    known: the keys and groups to choose from. Empty: all.
    """
    names = known or every_name()
    section, _, last = word.lstrip("+").rpartition(".")
    if not plain(last):
        return None
    own = [name for name in names if plain(name.rpartition(".")[2]) == plain(last)]
    of_section = [name for name in own if section and name.startswith(section)]
    for words, advice in UNSUPPORTED.items():
        if not of_section and plain(last) in map(plain, words.split()):
            return Key("", advice.replace("{word}", last.lower()))
    for name in of_section or own:
        return Key(name)
    for name, words in WORDS.items():
        if name in names and plain(last) in map(plain, words.split()):
            return Key(name)
    return None


def every_name() -> list[str]:
    """Every key and group of the command line."""
    return [*known_keys(), *sweep_keys(), *built_in_groups(), "resume", "hydra.run.dir"]


def suggestion(word: str, value: str | None, known: Collection[str] = ()) -> str:
    """The end of a message about a key that does not exist: what to type instead of WORD=VALUE, or the nearest key."""
    found = meant(word, known)
    if found is None:
        return nearest(word, known or every_name())
    if not found.name:
        return f"; {found.advice.replace('VALUE', value or 'VALUE')}"
    return f"; type {override(found.name, _device_for(word, value))}{owners_of(found.name)}"


def _device_for(word: str, value: str | None) -> str | None:
    """The device for a number of devices: a run trains on one. Other values are kept."""
    if plain(word) not in DEVICE_COUNTS or value is None:
        return value
    return "cpu" if value in ("0", "cpu") else "gpu"


def override(name: str, value: str | None) -> str:
    """NAME=VALUE, with the value translated by VALUES."""
    given = "" if value is None else value
    for pattern, ours in VALUES.get(name, {}).items():
        if (match := re.fullmatch(pattern, given.strip("'\"").lower())) is not None:
            return f"{name}={match.expand(ours) if isinstance(ours, str) else ours(match)}"
    if not given:
        given = "true" if "true" in {word for hint in hints_at(name) for word in choices(hint)} else "VALUE"
    return f"{name}={given}"


def accepted(key: str, value: Any) -> str:
    """The end of a message about a value that a key cannot have, where another one of it is meant; else nothing."""
    given = str(value)
    if key in INSTEAD:
        return instead_of(key, given)
    if key == "model.hidden":  # a number is one layer there, and not their count
        return ""
    ours = override(key, given) if given and key in VALUES else f"{key}={given}"
    return "" if ours in (f"{key}={given}", f"{key}={given.lower()}") else f"; type {ours}"


def instead_of(group: str, option: str) -> str:
    """The end of a message about an option that a group does not have, where others have it; else nothing."""
    for pattern, remedy in INSTEAD.get(group, {}).items():
        if re.fullmatch(pattern, plain(option)):
            return f"; {remedy}"
    return ""


def owners_of(key: str) -> str:
    """The end of a message about a key that only some options of its group have. Empty if the default option has it."""
    section, _, name = key.partition(".")
    group = next((group for group, found in GROUPS.items() if found.folder == section), None)
    if group is None or not name or section in SELECTIONS:
        return ""
    owners = [option for option, part in parts(group).items() if name in hints_of(cast(Any, part.config))]
    default = default_options()[section]
    return "" if default in owners else f", a key of {section}={', '.join(owners)}"


def no_flag(argument: str, words: Sequence[str], flags: Iterable[str], takes_overrides: bool) -> str:
    """A message about a flag that a command does not have: what to type instead.

    words: the command line behind the command. flags: those that the command has.
    """
    flag, _, value = argument.partition("=")
    word = flag.lstrip("-")
    suggested = nearest(word, [name[2:] for name in flags if name.startswith("--")]).replace("mean ", "mean --")
    found = meant(word) or (meant(word.removeprefix("no-")) if word.startswith("no-") else None)
    if not takes_overrides or found is None:
        return f"{flag}: no such flag{suggested}"
    if not found.name:
        return f"{flag}: no such flag; {found.advice}"
    after = [second for first, second in itertools.pairwise(words) if first == flag]
    given = value or next((text for text in after if not text.startswith("--")), None)
    given = "false" if word.startswith("no-") and meant(word) is None else given
    given = None if given is not None and holds_password(given) else given
    typed = override(found.name, _device_for(word, given))
    return f"{flag}: overrides have no dashes; type {typed}{owners_of(found.name)}"


def no_command(word: str, commands: Collection[str]) -> ConfigError:
    """The error about an unknown command."""
    if "=" in word:
        return ConfigError(f"{word}: no such command; type mnist-ff train {word}")
    for right, words in COMMANDS.items():
        if word.lower() in words.split() and (right.startswith("-") or right.split()[0] in commands):
            return ConfigError(f"{word}: no such command; type mnist-ff {right}")
    others = f" (there are: {', '.join(commands)})"
    return ConfigError(f"{word}: no such command{nearest(word, commands) or others}")
