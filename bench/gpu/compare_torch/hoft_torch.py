"""HOFT and SHOFT linear layers for PyTorch, over an extension that is built when it is first asked for."""

import os
import pathlib

import torch
import torch.utils.cpp_extension

# PyTorch hides the conversions and operators of CUDA's 16-bit types; hoft computes with them.
SHOWN = [
    f"-U__CUDA_NO_{name}__"
    for name in ("HALF_OPERATORS", "HALF_CONVERSIONS", "HALF2_OPERATORS", "BFLOAT16_CONVERSIONS")
]

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def build(device, verbose=False):
    """The extension for "cpu" or "cuda", in a folder of its own for each version of PyTorch."""
    folder = ROOT / "build/compare_torch" / f"{torch.__version__}_{device}"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MAX_JOBS", "2")
    source = {"cpu": "cpu.cpp", "cuda": "cuda.cu"}[device]
    eigen = os.environ.get("EIGEN_INCLUDE_DIR", "/usr/include/eigen3")
    return torch.utils.cpp_extension.load(
        name=f"hoft_compare_{device}",
        sources=[str(HERE / "extension" / name) for name in ("bindings.cpp", source)],
        extra_include_paths=[str(ROOT / "include")] + ([eigen] if device == "cpu" else []),
        extra_cflags=["-std=c++20", "-O1"],  # of the dry run: its times mean nothing
        extra_cuda_cflags=["-std=c++20", "-O3", "--extended-lambda", "--expt-relaxed-constexpr", *SHOWN],
        build_directory=str(folder),
        with_cuda=device == "cuda",
        verbose=verbose,
    )


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, u, v, s, weight, extension, keep_q, spare_rows):
        y, kept = extension.forward(x, weight, u, v, s, keep_q, spare_rows)
        ctx.save_for_backward(x, y, weight, kept, s)
        ctx.extension, ctx.ranks, ctx.keep_q = extension, (u.shape[0], v.shape[0]), keep_q
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):
        x, y, weight, kept, s = ctx.saved_tensors
        dx, du, dv, ds = ctx.extension.backward(dy.contiguous(), x, y, weight, kept, s, *ctx.ranks, ctx.keep_q)
        return dx, du, dv, ds, None, None, None, None


def paired_gaussian(rank, size, **options):
    """Reflectors as rows, each twice: their product is the identity."""
    return torch.randn((rank + 1) // 2, size, **options).repeat_interleave(2, 0)[:rank].contiguous()


class Adapted(torch.nn.Module):
    """y = Q_U diag(s) M Q_V x for a frozen weight M [out, in]; without `scaled` s = 1 and is no parameter.

    keep_q: SHOFT keeps one [tokens, out] for its backward pass, else recovers it from y.
    spare_rows: x lies at the head of memory with `rank` rows more (`with_spare_rows`), and is not copied.
    """

    def __init__(self, extension, weight, rank, scaled=False, keep_q=True, spare_rows=False):
        super().__init__()
        m, n = weight.shape
        options = {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}
        self.u = torch.nn.Parameter(paired_gaussian(rank, m, **options))
        self.v = torch.nn.Parameter(paired_gaussian(rank, n, **options))
        s = torch.ones(m if scaled else 0, **options)
        if scaled:
            self.s = torch.nn.Parameter(s)
        else:
            self.register_buffer("s", s)
        self.weight, self.extension, self.keep_q, self.spare_rows = weight, extension, keep_q, spare_rows

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        y = _Adapted.apply(tokens, self.u, self.v, self.s, self.weight, self.extension, self.keep_q, self.spare_rows)
        return y.reshape(*x.shape[:-1], -1)


def with_spare_rows(x, rank):
    """A copy of x [t, n] at the head of memory for t + rank rows."""
    room = torch.empty(x.shape[0] + rank, x.shape[1], dtype=x.dtype, device=x.device)
    room[: x.shape[0]] = x
    return room[: x.shape[0]]
