// SPDX-License-Identifier: BSD-3-Clause
// costs.hpp: what the methods say of themselves that exist on GPUs too, where only their memory differs.
#pragma once
#include "description.hpp"

namespace bench::methods {

/// The memory of each pass, as in pass_cost.
struct memory_formulas {
  char const *merge, *merge_backward, *forward, *backward;
};

/// The costs do not depend on the inverse.
constexpr description describe_hoft(char const* name, char const* text, memory_formulas memory) {
  return {
      .name = name,
      .text = text,
      .variables = "mnrt",
      .parameters = "(m + n) * r",
      .merge = {"8*m*n*r + 4*(m + n)*r**2", "2*m*n + (m + n)*r", memory.merge},
      .merge_backward = {"20*m*n*r + 8*(m + n)*r**2", "2*m*n + 2*(m + n)*r", memory.merge_backward},
      .forward = {"2*m*n*(t + r) + (6*m + 2*n)*r*t + (4*m + 2*n)*r**2", "m*n + (m + n)*(t + r)", memory.forward},
      .backward = {"2*m*n*(t + r) + (12*m + 4*n + 8*r)*r*t + (8*m + 2*n)*r**2", "m*n + 2*(m + n)*(t + r)",
                   memory.backward},
      .coverage = "r",
  };
}

constexpr description describe_shoft(memory_formulas memory) {
  description about = describe_hoft("shoft", "SHOFT, HOFT with a scale for each row, by hoft", memory);
  about.parameters = "(m + n) * r + m";
  about.merge_backward.flops = "20*m*n*r + 8*(m + n)*r**2 + 4*m*n";
  about.backward.moved = "m*n + 2*(m + n)*(t + r) + m*t";
  return about;
}

inline constexpr description about_lora{
    .name = "lora",
    .text = "LoRA",
    .variables = "mnrt",
    .parameters = "(m + n) * r",
    .merge = {"2*m*n*(r + 1)", "2*m*n + (m + n)*r", "0"},
    .merge_backward = {"4*m*n*r", "m*n + 2*(m + n)*r", "0"},
    .forward = {"2*m*n*t + 2*(m + n)*r*t", "m*n + (m + n)*(t + r)", "r*t"},
    .backward = {"2*m*n*t + 4*(m + n)*r*t", "m*n + (m + 2*n)*t + 2*(m + n)*r", "2*r*t"},
    .coverage = "r",
};

inline constexpr description about_full{
    .name = "full",
    .text = "full fine-tuning, of the weight itself",
    .variables = "mnt",
    .parameters = "m * n",
    .merge = {"0", "2*m*n", "0"},
    .merge_backward = {"0", "2*m*n", "0"},
    .forward = {"2*m*n*t", "m*n + (m + n)*t", "0"},
    .backward = {"4*m*n*t", "2*m*n + (m + 2*n)*t", "0"},
    .coverage = "all",
};

}  // namespace bench::methods
