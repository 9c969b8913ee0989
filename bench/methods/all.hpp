// SPDX-License-Identifier: BSD-3-Clause
// all.hpp: the methods that the harness knows, in the order of its tables. A new one is a header and a line here.
#pragma once
#include "hoft_exact.hpp"
#include "hoft_two_terms.hpp"
#include "hoft_in_turn_exact.hpp"
#include "hoft_in_turn_two_terms.hpp"
#include "shoft.hpp"
#include "hra.hpp"
#include "hra_dense.hpp"
#include "oft.hpp"
#include "oft_neumann.hpp"
#include "boft.hpp"
#include "lora.hpp"
#include "dora.hpp"
#include "full.hpp"
