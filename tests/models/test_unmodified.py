"""Only a network that is exactly the built-in one has the fast steps; a changed one trains as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_modules
from torch.nn.utils import parametrizations, prune

import mnist_ff
from mnist_ff.config.schema import Config
from mnist_ff.data.load import Data
from mnist_ff.engine.build import StepParts, build_step, choose_engine
from mnist_ff.errors import ConfigError
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP, Dropout
from mnist_ff.models.unmodified import why_modified
from tests.support.configs import make_config
from tests.support.mnist import make_split

CPU = torch.device("cpu")
Change = Callable[[MLP], Any]


@pytest.fixture(scope="module")
def config() -> Config:
    return make_config("model.hidden=[8,8]", "trainer.batch_size=32")


class Own(MLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -super().forward(x)


class Weight(nn.Parameter):
    pass


def put(path: str, make: Callable[[Any], object]) -> Change:
    """Set what stands at `path` to what `make` makes of it."""

    def change(model: MLP) -> None:
        owner, _, name = path.rpartition(".")
        parent = model.get_submodule(owner)
        value = parent[int(name)] if name.isdigit() else getattr(parent, name)
        if name.isdigit():
            parent[int(name)] = make(value)  # type: ignore[operator]
        else:
            setattr(parent, name, make(value))

    return change


def hooked(name: str, path: str = "layers.0") -> Change:
    return lambda model: getattr(model.get_submodule(path), name)(lambda *given: None)


def share(model: MLP) -> None:
    model.layers[1].weight.data = model.layers[0].weight.data.view(-1)[:64].view(8, 8)


def overlap(model: MLP) -> None:
    flat = torch.randn(100)
    model.layers[1].weight.data, model.layers[2].bias.data = flat[:64].view(8, 8), flat[60:70]


def method_of_its_own(model: MLP) -> None:
    model.forward = lambda x: model.layers[2](model.layers[0](x))  # type: ignore[method-assign, assignment]


CHANGES: dict[str, Change] = {
    "a frozen weight": lambda m: m.layers[0].weight.requires_grad_(False),
    "a frozen network": lambda m: m.requires_grad_(False),
    "a subclass": lambda m: setattr(m, "__class__", Own),
    "a forward of its own": method_of_its_own,
    "a layer's forward of its own": lambda m: setattr(m.layers[1], "forward", lambda x: x),
    "a method of its own": lambda m: setattr(m, "train", lambda mode=True: m),
    "a mask of its own": lambda m: setattr(m.dropout, "mask", lambda *given: 1),
    "a forward hook": hooked("register_forward_hook"),
    "a forward hook on dropout": hooked("register_forward_hook", "dropout"),
    "a forward hook on the list": hooked("register_forward_hook", "layers"),
    "a forward pre-hook": hooked("register_forward_pre_hook", ""),
    "a backward hook": hooked("register_full_backward_hook"),
    "a backward pre-hook": hooked("register_full_backward_pre_hook"),
    "a hook on a weight": lambda m: m.layers[0].weight.register_hook(lambda gradient: 2 * gradient),
    "a hook on an accumulated gradient": lambda m: m.layers[0].bias.register_post_accumulate_grad_hook(lambda p: None),
    "a hook on several gradients": lambda m: torch.autograd.graph.register_multi_grad_hook(
        [m.layers[0].bias], lambda gradients: None
    ),
    "pruning": lambda m: prune.l1_unstructured(m.layers[0], "weight", 0.5),
    "pruning of a bias": lambda m: prune.random_unstructured(m.layers[1], "bias", 2),
    "weight norm": lambda m: parametrizations.weight_norm(m.layers[0]),
    "spectral norm": lambda m: parametrizations.spectral_norm(m.layers[0]),
    "spectral norm of old": lambda m: nn.utils.spectral_norm(m.layers[0]),
    "orthogonal weights": lambda m: parametrizations.orthogonal(m.layers[1]),
    "no bias": put("layers.0", lambda layer: nn.Linear(784, 8, bias=False)),
    "a bias that is gone": lambda m: m.layers[0].register_parameter("bias", None),
    "a normalisation beside a layer": put("layers.0", lambda layer: nn.Sequential(layer, nn.LayerNorm(8))),
    "a normalisation for a layer": put("layers.1", lambda layer: nn.LayerNorm(8)),
    "a subclass of a layer": put("layers.1", lambda layer: type("Wrapped", (nn.Linear,), {})(8, 8)),
    "an identity in the list": lambda m: m.layers.insert(1, nn.Identity()),
    "a module beside": lambda m: m.add_module("extra", nn.Linear(3, 3)),
    "a parameter beside": lambda m: m.register_parameter("extra", nn.Parameter(torch.zeros(3))),
    "a parameter of a layer's own": lambda m: m.layers[0].register_parameter("scale", nn.Parameter(torch.ones(()))),
    "a buffer": lambda m: m.register_buffer("extra", torch.zeros(3)),
    "another list": lambda m: setattr(m, "layers", nn.Sequential(*m.layers)),
    "one layer twice": lambda m: m.layers.__setitem__(2, m.layers[1]),
    "one dropout twice": lambda m: setattr(m, "input_dropout", m.dropout),
    "one weight twice": lambda m: setattr(m.layers[2], "bias", m.layers[1].bias),
    "shared memory": share,
    "overlapping memory": overlap,
    "memory that repeats": lambda m: setattr(m.layers[0].bias, "data", torch.zeros(1).expand(8)),
    "sizes that do not fit": put("layers.1", lambda layer: nn.Linear(9, 8)),
    "torch's dropout": put("dropout", lambda dropout: nn.Dropout(0.4)),
    "a subclass of dropout": put("dropout", lambda dropout: type("Wilder", (Dropout,), {})(0.4)),
    "another scale": put("dropout.scale", lambda scale: 2 * scale),
    "another threshold": put("input_dropout.threshold", lambda threshold: threshold - 1),
    "noise as a tensor": put("input_noise.std", lambda std: torch.tensor(0.1)),
    "generators of their own": put("dropout.rng", lambda rng: torch.Generator()),
    "an activation of one's own": put("activation", lambda name: torch.relu),
    "an unknown activation": put("activation", lambda name: "mish"),
    "float64": lambda m: m.double(),
    "half": lambda m: m.half(),
    "one weight in float64": put("layers.0.weight", lambda weight: nn.Parameter(weight.detach().double())),
    "a subclass of a parameter": put("layers.0.weight", lambda weight: Weight(weight.detach())),
    "a compiled forward": lambda m: setattr(m, "_compiled_call_impl", print),
    "another device": lambda m: m.layers[0].to("meta"),
}


@contextmanager
def with_hook(kind: str) -> Iterator[None]:
    handle = getattr(torch_modules, f"register_module_{kind}")(lambda *given: None)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(owner, name, value) if isinstance(owner, dict) else patch.setattr(owner, name, value)
        yield


WORLDS: dict[str, Any] = {
    "a forward hook on all modules": partial(with_hook, "forward_hook"),
    "a forward pre-hook on all modules": partial(with_hook, "forward_pre_hook"),
    "a backward hook on all modules": partial(with_hook, "full_backward_hook"),
    "another Module call": partial(replaced, nn.Module, "__call__", lambda self, *given: self.forward(*given)),
    "another Linear forward": partial(replaced, nn.Linear, "forward", lambda self, x: x @ self.weight.t()),
    "another MLP forward": partial(replaced, MLP, "forward", lambda self, x: self.layers[-1](x)),
    "another mask": partial(replaced, Dropout, "mask", lambda *given: 1),
    "another linear function": partial(replaced, nn.functional, "linear", lambda x, weight, bias: x @ weight.t()),
}

WRAPPERS: dict[str, Callable[[MLP], nn.Module]] = {
    "in a Sequential": lambda m: nn.Sequential(m),
    "in DataParallel": lambda m: nn.DataParallel(m),
    "of another class": lambda m: nn.Linear(784, 10),
    "compiled": torch.compile,
}


def assert_eager(model: nn.Module, config: Config) -> None:
    assert choose_engine(model, config.trainer, CPU, "rmsprop") == "eager"
    with pytest.raises(ConfigError, match=r"^trainer.engine=fused: needs the unmodified built-in network, but .+"):
        choose_engine(model, replace(config.trainer, engine="fused"), CPU, "rmsprop")
    cuda = torch.device("cuda")  # nothing is computed there
    assert choose_engine(model, config.trainer, cuda, "rmsprop") == "graph", "of the eager step, where that works"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.filterwarnings("ignore:`torch.nn.utils:FutureWarning")
def test_a_changed_network_has_no_fast_step(change: Change, config: Config) -> None:
    model = build_model(config.model, 0, CPU)
    assert why_modified(model) is None
    change(model)
    assert_eager(model, config)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_what_changes_every_module_leaves_no_fast_step(world: Any, config: Config) -> None:
    model = build_model(config.model, 0, CPU)
    with world():
        assert_eager(model, config)
    assert why_modified(model) is None


@pytest.mark.parametrize(
    "wrap",
    [pytest.param(wrap, id=name, marks=[pytest.mark.slow] * (name == "compiled")) for name, wrap in WRAPPERS.items()],
)
def test_a_wrapped_network_has_no_fast_step(wrap: Callable[[MLP], nn.Module], config: Config) -> None:
    assert_eager(wrap(build_model(config.model, 0, CPU)), config)


def other_sizes(model: MLP) -> None:
    model.layers[0] = nn.Linear(784, 6)
    model.layers.insert(1, nn.Linear(6, 8))


def views_of_one_vector(model: MLP) -> None:
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), model.parameters())


SAME: dict[str, Change] = {
    "as built": lambda m: None,
    "in evaluation mode": lambda m: m.eval(),
    "with gradients": lambda m: m(torch.zeros(2, 784)).sum().backward(),
    "with a note": lambda m: setattr(m, "note", "mine"),
    "views of one vector": views_of_one_vector,
    "a weight that lies transposed": lambda m: setattr(
        m.layers[0].weight, "data", m.layers[0].weight.data.t().contiguous().t()
    ),
    "other sizes": other_sizes,
    "another activation": put("activation", lambda name: "tanh"),
    "hooks that were removed": lambda m: m.register_forward_hook(lambda *given: None).remove(),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_plain_network_gets_fused_step_same_losses(change: Change, dropout: float, config: Config) -> None:
    split, figures = make_split(96), []
    for engine in ("auto", "eager"):
        torch.manual_seed(0)
        model = copy.deepcopy(build_model(replace(config.model, dropout=dropout), 0, CPU))
        change(model)
        assert choose_engine(model, config.trainer, CPU, "rmsprop") == "fused"
        step, _ = build_step(StepParts(model, config.optimizer, replace(config.trainer, engine=engine), split))
        figures.append(step(torch.arange(96)))
        assert choose_engine(model, config.trainer, CPU, "rmsprop") == "fused", "still the same one when it trains"
    torch.testing.assert_close(figures[0], figures[1], atol=1e-5, rtol=1e-4)


TRAINED = ("a frozen weight", "a subclass", "a hook on a weight", "pruning", "weight norm", "torch's dropout")


@pytest.mark.parametrize("change", [*TRAINED, "shared memory"])
def test_changed_network_trains_as_eager(change: str, config: Config) -> None:
    split, results = make_split(96), []
    for engine in ("auto", "eager"):
        torch.manual_seed(0)
        model = build_model(config.model, 0, CPU)
        CHANGES[change](model)
        step, _ = build_step(StepParts(model, config.optimizer, replace(config.trainer, engine=engine), split))
        results.append([step(torch.arange(96)), *model.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_frozen_weight_stays_as_it_is(small_data: Data) -> None:
    model = mnist_ff.init_model("model.hidden=[8]")
    frozen = model.layers[0].weight.requires_grad_(False)
    before, free = frozen.clone(), model.layers[1].weight.detach().clone()
    mnist_ff.run_network(small_data, model, 1, 64, verbose=False, device="cpu")
    assert torch.equal(frozen, before)
    assert not torch.equal(model.layers[1].weight, free)


def test_averaging_leaves_a_frozen_weight_as_it_is(small_data: Data) -> None:
    model = mnist_ff.init_model("model.hidden=[8]")
    frozen = model.layers[0].weight.requires_grad_(False)
    before, free = frozen.clone(), model.layers[1].weight.detach().clone()
    words = ["trainer.ema=0.9", "trainer.max_norm=0.5", "trainer.clip_norm=1"]
    mnist_ff.run_network(small_data, model, 1, 64, verbose=False, device="cpu", overrides=words)
    assert torch.equal(frozen, before)
    assert not torch.equal(model.layers[1].weight, free)


def test_nested_dropout_comes_from_the_seed(small_data: Data) -> None:
    losses = []
    for draws in (0, 3):
        model = mnist_ff.init_model("model.hidden=[8]")
        for _ in range(draws):
            model(torch.zeros(2, 784))
        losses.append(mnist_ff.run_network(small_data, nn.Sequential(model), 1, 64, verbose=False, device="cpu")[1])
    assert losses[0] == losses[1]
