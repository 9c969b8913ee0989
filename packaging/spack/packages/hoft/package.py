# SPDX-License-Identifier: BSD-3-Clause
import pathlib

from spack.package import *

try:
    from spack_repo.builtin.build_systems.cmake import CMakePackage
except ImportError:
    pass  # before 1.0, spack.package has it


class Hoft(CMakePackage):
    """Householder products, compact WY forms and orthogonal fine-tuning transforms; headers only."""

    # The checkout that this recipe lies in, until hoft has an address of its own.
    git = pathlib.Path(__file__).resolve().parents[4].as_uri()

    license("BSD-3-Clause")

    version("main", branch="main")
    version("0.2.0", tag="v0.2.0")

    variant("cuda", default=False, description="CUDA's toolkit, for sources that include hoft/cuda.hpp")
    variant("mpi", default=False, description="MPI, for sources that include hoft/mpi.hpp")
    variant("nccl", default=False, when="+cuda", description="NCCL, for sources that include hoft/nccl.hpp")

    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("eigen@3.4:")
    depends_on("cuda@12.4:", when="+cuda")
    depends_on("mpi", when="+mpi")
    depends_on("nccl", when="+nccl")

    def cmake_args(self):
        parts = ("TESTS", "EXAMPLES", "BENCH", "DOCS")
        return [self.define("HOFT_INSTALL", True)] + [self.define(f"HOFT_BUILD_{part}", False) for part in parts]
