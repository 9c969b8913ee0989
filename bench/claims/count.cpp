// SPDX-License-Identifier: BSD-3-Clause
// count.cpp: flops by numbers that count, bytes by a heap that counts: the same on every machine and at every run.
#include "counted.hpp"

#include "measures.hpp"
#include "heap.hpp"
#include "progress.hpp"
#include "trial.hpp"

#include <ostream>

namespace bench::claims {
namespace {

double flops_of(planned const& p) {
  trial<counted> t(p);
  t.prepare();
  t.refresh();
  counted::flops = 0;
  t.run();
  return double(counted::flops);
}

double bytes_of(planned const& p) {
  trial<float> t(p);
  t.refresh();
  std::size_t const before = heap_in_use();
  t.prepare();
  heap_forget_peak();
  t.run();
  return double(heap_peak() - before);
}

}  // namespace

void count(std::vector<planned> const& plan, std::ostream& out) {
  out << case_head << "\tparameters\tflops\tbytes\n";
  out.precision(17);
  progress shown("counting", plan.size());
  for (planned const& p : plan) {
    write_case(p, out);
    out << '\t' << trial<float>(p).trained() << '\t' << flops_of(p) << '\t' << bytes_of(p) << '\n';
    shown.step();
  }
}

}  // namespace bench::claims
