// SPDX-License-Identifier: BSD-3-Clause
// main.cpp: all contests, one after another.
#include "program.hpp"

int main(int argc, char** argv) {
  bench::program program(argc, argv);
  if (program.training()) {
    bench::training_case(program);
  } else {
    bench::apply_cases(program);
    bench::accumulate_cases(program);
    bench::apply_backward_cases(program);
    bench::merge_cases(program);
    bench::forward_cases(program);
    bench::backward_cases(program);
    bench::activation_cases(program);
    bench::decode_cases(program);
    bench::batch_cases(program);
    bench::forms_cases(program);
    bench::storage_cases(program);
  }
  return program.finish();
}
