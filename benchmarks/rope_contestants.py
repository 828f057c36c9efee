"""Who rotates q and k in benchmarks/rope_gpu.py: all on the same numbers, each checked against fp64 before it is timed.

Tensors are as a projection leaves them, [B, S, N, H] in memory. Several sets of them, together larger than the L2
cache, are taken in turn, so that no set is still in the cache when its turn comes again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch

from benchmarks.shape import Shape
from plugins.binding import BFLOAT16, FLOAT16, FLOAT32, Kernel, Parameters, Strides, Tensor

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
CODES = {"bfloat16": BFLOAT16, "float16": FLOAT16, "float32": FLOAT32}
ROWS = 32768  # of the tables
THETA = 1e4
MOST_SETS = 256


@dataclass
class Contestant:
    """`call(i)` rotates set i; `result()` is set 0's q and k after call(0), [B, S, N, H], None if it makes none."""

    name: str
    call: Callable[[int], object]
    result: Callable[[], tuple[torch.Tensor, torch.Tensor] | None] = lambda: None
    group: str = "kernel"  # "peer" is to be beaten, "floor" is a copy or an empty kernel
    graph: bool = True  # whether a CUDA graph can hold it
    sets: int = 1
    keeps: object = None  # memory whose address alone the call knows


@dataclass
class Skipped:
    """Who does not take part, and why."""

    reasons: dict[str, str] = field(default_factory=dict)


class Numbers:
    """The tensors of one shape and type, on one device."""

    def __init__(self, shape: Shape, kind: str, device: str, cache_bytes: int) -> None:
        self.shape, self.kind, self.dtype = shape, kind, TYPES[kind]
        size = self.dtype.itemsize
        self.bytes = 2 * shape.elements * size
        self.sets = min(MOST_SETS, max(2, -(-3 * cache_bytes // self.bytes)))
        generator = torch.Generator(device).manual_seed(0)
        # One block a set, q before k, so that one copy of the block moves the same bytes.
        self.given = torch.randn(self.sets, shape.elements, generator=generator, device=device).to(self.dtype)
        self.taken = torch.full_like(self.given, float("nan"))
        self.inv_freq = THETA ** (-torch.arange(shape.H // 2, dtype=torch.float64, device=device) * 2 / shape.H)
        angles = torch.arange(ROWS, dtype=torch.float64, device=device)[:, None] * self.inv_freq
        self.cos, self.sin = angles.cos().float(), angles.sin().float()
        first = torch.arange(shape.B, device=device) * 97 % (ROWS - shape.S + 1)
        self.positions = (first[:, None] + torch.arange(shape.S, device=device)).contiguous()  # int64 [B, S]

    def q_k(self, block: torch.Tensor, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Set i of a block, as [B, S, N, H] and [B, S, K, H]."""
        s = self.shape
        q = s.B * s.S * s.N * s.H
        return block[i, :q].view(s.B, s.S, s.N, s.H), block[i, q:].view(s.B, s.S, s.K, s.H)

    def error(self, result: tuple[torch.Tensor, torch.Tensor]) -> float:
        """Largest difference from the fp64 rotation of set 0, on its first and last tokens."""
        worst = 0.0
        for given, came in zip(self.q_k(self.given, 0), result, strict=True):
            for part in (slice(0, 64), slice(max(0, self.shape.S - 64), None)):
                angles = self.positions[:, part, None].double() * self.inv_freq
                c, s = angles.cos()[:, :, None], angles.sin()[:, :, None]
                a, b = given[:, part].double().chunk(2, -1)
                wanted = torch.cat([a * c - b * s, b * c + a * s], -1)
                difference = (came[:, part].double() - wanted).abs().max().item()
                worst = max(worst, difference if difference == difference else float("inf"))
        return worst


# Of numbers up to about 6: two roundings of the type, or, for eager, four with tables rounded too.
TOLERANCE = {"bfloat16": 0.12, "float16": 0.015, "float32": 2e-5}


def parameters(numbers: Numbers, i: int, into: torch.Tensor, transposed: bool = False, **more: object) -> Parameters:
    """The kernel's parameters for set i; `transposed`: written as [B, N, S, H]."""
    s = numbers.shape

    def tensor(given: torch.Tensor, taken: torch.Tensor, heads: int) -> Tensor:
        rows = Strides(s.S * heads * s.H, heads * s.H, s.H)
        out = Strides(heads * s.S * s.H, s.H, s.S * s.H) if transposed else rows
        return Tensor(input=given.data_ptr(), output=taken.data_ptr(), in_stride=rows, out_stride=out, heads=heads)

    source = into if more.pop("in_place", False) else numbers.given
    (q, k), (q_out, k_out) = numbers.q_k(source, i), numbers.q_k(into, i)
    tables = {
        "cos_cache": numbers.cos.data_ptr(),
        "sin_cache": numbers.sin.data_ptr(),
        "cache_rows": ROWS,
    }
    return Parameters(
        **{
            "q": tensor(q, q_out, s.N),
            "k": tensor(k, k_out, s.K),
            "type": CODES[numbers.kind],
            "batch": s.B,
            "tokens": s.S,
            "head_dim": s.H,
            "rotary_dim": s.H,
            "positions": numbers.positions.data_ptr(),
            "positions_are_int64": True,
            "position_batch_stride": s.S,
            **tables,
            **more,
        }
    )


def stream() -> int:
    return torch.cuda.current_stream().cuda_stream if torch.cuda.is_available() else 0


def ours(kernel: Kernel, numbers: Numbers, tuning: bool) -> Iterator[Contestant]:
    """The kernel in each way it can be asked; it writes where the others write, but in place."""

    def contestant(
        name: str, transposed: bool = False, own: bool = False, keeps: object = None, **more: object
    ) -> Contestant:
        into = numbers.given.clone() if own else numbers.taken
        calls = [parameters(numbers, i, into, transposed, in_place=own, **more) for i in range(numbers.sets)]

        def call(i: int) -> None:
            if fault := kernel.launch(calls[i], stream()):
                raise RuntimeError(f"{name}: {fault}")

        def result() -> tuple[torch.Tensor, torch.Tensor]:
            s, (q, k) = numbers.shape, numbers.q_k(into, 0)
            if not transposed:
                return q, k
            return q.view(s.B, s.N, s.S, s.H).transpose(1, 2), k.view(s.B, s.K, s.S, s.H).transpose(1, 2)

        return Contestant(name, call, result, keeps=(into, keeps))

    yield contestant("kernel")
    yield contestant("kernel, transposing", transposed=True)
    yield contestant("kernel, in place", own=True)
    if numbers.kind != "float32":
        halves = [table.to(numbers.dtype) for table in (numbers.cos, numbers.sin)]
        given = {"cos_cache": halves[0].data_ptr(), "sin_cache": halves[1].data_ptr()}
        yield contestant("kernel, 16-bit tables", cache_type=CODES[numbers.kind], keeps=halves, **given)
    steps = torch.from_numpy(kernel.turn_steps(numbers.inv_freq.cpu().numpy()).view("int64")).to(numbers.given.device)
    yield contestant("kernel, no tables", turn_steps=steps.data_ptr(), keeps=steps)
    if tuning:
        yield contestant("kernel, early start", early_start=True)
        for heads in (1, 2, 4):
            yield contestant(f"kernel, {heads} a thread", heads_per_thread=heads)


def floors(kernel: Kernel, numbers: Numbers) -> Iterator[Contestant]:
    """What nobody can beat by much: the same bytes moved, and nothing done at all."""
    given, taken = numbers.given, numbers.taken
    yield Contestant("copy", lambda i: taken[i].copy_(given[i]), group="floor")
    yield Contestant("copy by a kernel (torch.neg)", lambda i: torch.neg(given[i], out=taken[i]), group="floor")
    if hasattr(kernel.library, "rope_launch_empty"):
        for name, early in (("empty kernel", False), ("empty kernel, early start", True)):
            empty = parameters(numbers, 0, taken, early_start=early)
            yield Contestant(name, lambda i, p=empty: kernel.launch_empty(p, stream()), group="floor")


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def eager(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The arithmetic of transformers' apply_rotary_pos_emb, for where transformers is not installed."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def peers(numbers: Numbers, skipped: Skipped, compile_too: bool) -> Iterator[Contestant]:
    """PyTorch, Triton, Hugging Face's kernel, ONNX Runtime. Their cos and sin are gathered and widened beforehand."""
    cuda = numbers.given.is_cuda
    rows = [torch.cat([t[numbers.positions]] * 2, -1).to(numbers.dtype) for t in (numbers.cos, numbers.sin)]

    def on_views(name: str, function: Callable) -> Contestant:
        last: list[tuple[torch.Tensor, torch.Tensor]] = []

        def call(i: int) -> None:
            q, k = numbers.q_k(numbers.given, i)
            last[:] = [function(q.transpose(1, 2), k.transpose(1, 2), *rows)]

        return Contestant(name, call, lambda: tuple(x.transpose(1, 2) for x in last[0]), "peer")

    try:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as of_transformers
    except ImportError:
        skipped.reasons["transformers"] = "not installed; its arithmetic is repeated here"
        of_transformers = eager
    yield on_views("PyTorch eager (transformers)", of_transformers)
    if not cuda or not compile_too:
        skipped.reasons["torch.compile"] = "not on a dry run"
    else:
        torch._dynamo.reset()  # else the shapes measured before count as recompilations, of which few are allowed
        yield on_views("torch.compile", torch.compile(eager, fullgraph=True, dynamic=False))
    yield from _triton(numbers, skipped)
    yield from _hub_kernel(numbers, skipped)
    yield from _onnxruntime(numbers, skipped)


def _triton(numbers: Numbers, skipped: Skipped) -> Iterator[Contestant]:
    if not numbers.given.is_cuda:
        skipped.reasons["Triton"] = "needs a GPU"
        return
    try:
        from benchmarks import rope_triton
    except ImportError as error:
        skipped.reasons["Triton"] = str(error)
        return

    def call(i: int) -> None:
        (q, k), (q_out, k_out) = numbers.q_k(numbers.given, i), numbers.q_k(numbers.taken, i)
        rope_triton.rotate(q, k, q_out, k_out, numbers.cos, numbers.sin, numbers.positions)

    yield Contestant("Triton", call, partial(numbers.q_k, numbers.taken, 0), "peer")


def _hub_kernel(numbers: Numbers, skipped: Skipped) -> Iterator[Contestant]:
    """kernels-community/rotary, which transformers takes from the hub; only if it is on this machine already."""
    name = "Hugging Face kernel"
    if not numbers.given.is_cuda:
        skipped.reasons[name] = "needs a GPU"
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from kernels import get_kernel

        rotary = get_kernel("kernels-community/rotary", version=2).apply_rotary
    except Exception as error:  # whatever the hub's client raises where the kernel was never fetched
        skipped.reasons[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return
    c, s = (t[numbers.positions].to(numbers.dtype).unsqueeze(2) for t in (numbers.cos, numbers.sin))

    def call(i: int) -> None:
        for x, out in zip(numbers.q_k(numbers.given, i), numbers.q_k(numbers.taken, i), strict=True):
            rotary(*x.chunk(2, -1), c, s, *out.chunk(2, -1), False)

    yield Contestant(name, call, partial(numbers.q_k, numbers.taken, 0), "peer")


def _onnxruntime(numbers: Numbers, skipped: Skipped) -> Iterator[Contestant]:
    """com.microsoft.RotaryEmbedding of q and of k, 3-D, which takes and leaves the projection's layout."""
    name = "ONNX Runtime CUDA"
    try:
        import onnxruntime
        from onnx import TensorProto, helper
    except ImportError as error:
        skipped.reasons[name] = str(error)
        return
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        skipped.reasons[name] = f"onnxruntime {onnxruntime.__version__} has no CUDAExecutionProvider"
        return
    kind = {"bfloat16": TensorProto.BFLOAT16, "float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}[
        numbers.kind
    ]
    s = numbers.shape
    tables = [table.to(numbers.dtype) for table in (numbers.cos, numbers.sin)]
    heads = {"q": s.N, "k": s.K}
    info = helper.make_tensor_value_info
    inputs = [info(x, kind, [s.B, s.S, n * s.H]) for x, n in heads.items()]
    inputs += [info("positions", TensorProto.INT64, [s.B, s.S])]
    inputs += [info(x, kind, [ROWS, s.H // 2]) for x in ("cos", "sin")]
    outputs = [info(f"{x}_out", kind, [s.B, s.S, n * s.H]) for x, n in heads.items()]
    nodes = [
        helper.make_node(
            "RotaryEmbedding", [x, "positions", "cos", "sin"], [f"{x}_out"], domain="com.microsoft", num_heads=n
        )
        for x, n in heads.items()
    ]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph(nodes, "rotation", inputs, outputs), opset_imports=opsets, ir_version=10
    )
    options = {"user_compute_stream": str(torch.cuda.current_stream().cuda_stream)}
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=[("CUDAExecutionProvider", options)]
        )
        bindings = [_bound(session, numbers, i, tables, kind) for i in range(numbers.sets)]
    except Exception as error:  # its exception classes share no base below Exception
        skipped.reasons[name] = str(error).splitlines()[0]
        return

    run = onnxruntime.RunOptions()
    run.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def call(i: int) -> None:
        session.run_with_iobinding(bindings[i], run)

    result = partial(numbers.q_k, numbers.taken, 0)
    yield Contestant(name, call, result, "peer", graph=False, keeps=tables)


def _bound(session, numbers: Numbers, i: int, tables: list[torch.Tensor], kind: int):
    s, binding = numbers.shape, session.io_binding()
    (q, k), (q_out, k_out) = numbers.q_k(numbers.given, i), numbers.q_k(numbers.taken, i)
    for name, x in (("q", q), ("k", k), ("cos", tables[0]), ("sin", tables[1])):
        shape = (s.B, s.S, x.shape[2] * s.H) if x.dim() == 4 else tuple(x.shape)
        binding.bind_input(name, "cuda", 0, kind, shape, x.data_ptr())
    binding.bind_input("positions", "cuda", 0, 7, tuple(numbers.positions.shape), numbers.positions.data_ptr())
    for name, x in (("q_out", q_out), ("k_out", k_out)):
        binding.bind_output(name, "cuda", 0, kind, (s.B, s.S, x.shape[2] * s.H), x.data_ptr())
    return binding
