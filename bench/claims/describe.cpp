// describe.cpp: the methods, as a table.
#include "commands.hpp"
#include "trial.hpp"

#include <ostream>

namespace bench::claims {

void describe(std::ostream& out) {
  out << "name\ttext\tvariables\tparameters\tcoverage";
  for (char const* pass : pass_names) out << '\t' << pass << "_flops\t" << pass << "_moved\t" << pass << "_memory";
  out << '\n';
  for (auto const& e : methods::list<float>()) {
    auto const& a = *e.about;
    out << a.name << '\t' << a.text << '\t' << a.variables << '\t' << a.parameters << '\t' << a.coverage;
    for (auto const& cost : {a.merge, a.merge_backward, a.forward, a.backward})
      out << '\t' << cost.flops << '\t' << cost.moved << '\t' << cost.memory;
    out << '\n';
  }
}

}  // namespace bench::claims
