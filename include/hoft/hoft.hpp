// SPDX-License-Identifier: BSD-3-Clause
// hoft/hoft.hpp: everything on the CPU.
#pragma once
#include <hoft/adapter/batch.hpp>
#include <hoft/adapter/layer_batch.hpp>
#include <hoft/core/cost.hpp>
#include <hoft/eigen/activations.hpp>
#include <hoft/eigen/adapter.hpp>
#include <hoft/eigen/apply.hpp>
#include <hoft/eigen/apply_backward.hpp>
#include <hoft/eigen/compact_wy.hpp>
#include <hoft/eigen/dense.hpp>
#include <hoft/eigen/layer.hpp>
#include <hoft/eigen/merge.hpp>
#include <hoft/eigen/orthogonality.hpp>
#include <hoft/householder/batch.hpp>
#include <hoft/reference/gradient.hpp>
#include <hoft/reference/hyperspherical_energy.hpp>
#include <hoft/reference/orthogonality.hpp>
#include <hoft/reference/reflectors.hpp>
#include <hoft/reference/singular_values.hpp>
