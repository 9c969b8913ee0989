// SPDX-License-Identifier: BSD-3-Clause
// describe.cpp: what hoft_claims can do, and its methods as a table.
#include "measures.hpp"
#include "trial.hpp"

#include <ostream>

namespace bench::claims {

void describe(std::ostream& out) {
  write_description_head(out);
  for (auto const& e : methods::list<float>()) write_description(*e.about, out);
}

commands available() {
  return {"hoft_claims", "Measures what bench/claims/harness.py judges.", describe, count, time, orthogonality, sides,
          coverage};
}

}  // namespace bench::claims
