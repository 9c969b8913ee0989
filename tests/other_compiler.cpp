// SPDX-License-Identifier: BSD-3-Clause
// hoft's headers under a compiler that is not GNU's: one that defines no __GNUC__, and takes none of GNU's vectors.
// Eigen and the libraries come first, since they must know the compiler that reads them.
#include "platform_macros.hpp"

#undef __GNUC__
#include <hoft/blas.hpp>
#include <hoft/hoft.hpp>
#include <hoft/reference/gradient.hpp>
#include <hoft/reference/hyperspherical_energy.hpp>
#include <hoft/reference/singular_values.hpp>
