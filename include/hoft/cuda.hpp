// hoft/cuda.hpp: compact WY forms and transforms on NVIDIA GPUs. Calls take a policy, hoft::cuda::on(stream, handle),
// and views of device memory; sources that call them are compiled by nvcc.
#pragma once
#include <hoft/core/cost.hpp>
#include <hoft/cuda/dense.hpp>
#include <hoft/cuda/paired_gaussian.hpp>
#include <hoft/cuda/policy.hpp>
#include <hoft/transform/backward.hpp>
#include <hoft/transform/batch.hpp>
#include <hoft/transform/forward.hpp>
#include <hoft/transform/low_rank.hpp>
#include <hoft/transform/merge.hpp>
#include <hoft/transform/unmerge.hpp>
#include <hoft/wy/accumulate.hpp>
#include <hoft/wy/apply.hpp>
#include <hoft/wy/apply_backward.hpp>
#include <hoft/wy/batch.hpp>
