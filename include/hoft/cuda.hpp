// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda.hpp: compact WY forms and transforms on NVIDIA GPUs. Calls take a policy, hoft::cuda::on(stream, handle),
// and views of device memory; sources that call them are compiled by nvcc.
#pragma once
#include <hoft/adapter/batch.hpp>
#include <hoft/adapter/layer_batch.hpp>
#include <hoft/adapter/low_rank.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/paired_gaussian.hpp>
#include <hoft/adapter/scaled_low_rank.hpp>
#include <hoft/adapter/unmerge.hpp>
#include <hoft/core/cost.hpp>
#include <hoft/cuda/dense.hpp>
#include <hoft/cuda/policy.hpp>
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>
#include <hoft/householder/batch.hpp>
