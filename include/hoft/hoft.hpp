// hoft/hoft.hpp: everything on the CPU.
#pragma once
#include <hoft/api/activations.hpp>
#include <hoft/api/adapter.hpp>
#include <hoft/api/apply.hpp>
#include <hoft/api/compact_wy.hpp>
#include <hoft/api/dense.hpp>
#include <hoft/api/merge.hpp>
#include <hoft/api/orthogonality.hpp>
#include <hoft/core/cost.hpp>
#include <hoft/reference/gradient.hpp>
#include <hoft/reference/hyperspherical_energy.hpp>
#include <hoft/reference/orthogonality.hpp>
#include <hoft/reference/reflectors.hpp>
#include <hoft/reference/singular_values.hpp>
#include <hoft/transform/batch.hpp>
#include <hoft/wy/batch.hpp>
