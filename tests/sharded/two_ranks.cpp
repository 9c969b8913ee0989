// SPDX-License-Identifier: BSD-3-Clause
// Whether two processes that mpirun starts are two ranks of one program: CMakeLists.txt asks before it adds tests.
#include <mpi.h>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Finalize();
  return ranks == 2 ? 0 : 1;
}
