// SPDX-License-Identifier: BSD-3-Clause
// tables.cpp: rows that the tables of all programs have in common.
#include "commands.hpp"

#include <ostream>

namespace bench::claims {

char const* const case_head = "method\tpass\tm\tn\tr\tb\tk\tt";

void write_case(planned const& p, std::ostream& out) {
  out << p.method << '\t' << p.pass;
  for (index_t size : {p.s.m, p.s.n, p.s.r, p.s.b, p.s.k, p.s.t}) out << '\t' << size;
}

void write_description_head(std::ostream& out) {
  out << "name\ttext\tvariables\tparameters\tcoverage";
  for (char const* pass : pass_names) out << '\t' << pass << "_flops\t" << pass << "_moved\t" << pass << "_memory";
  out << '\n';
}

void write_description(methods::description const& a, std::ostream& out) {
  out << a.name << '\t' << a.text << '\t' << a.variables << '\t' << a.parameters << '\t' << a.coverage;
  for (auto const& cost : {a.merge, a.merge_backward, a.forward, a.backward})
    out << '\t' << cost.flops << '\t' << cost.moved << '\t' << cost.memory;
  out << '\n';
}

}  // namespace bench::claims
