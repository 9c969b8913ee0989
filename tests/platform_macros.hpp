// SPDX-License-Identifier: BSD-3-Clause
// What a program may have defined before it includes hoft: macros of windows.h and of C's headers, with which Eigen
// compiles. The libraries come first, as some of them undefine such macros.
#pragma once
#include <Eigen/Dense>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstring>
#include <exception>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define NEAR
#define FAR
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define ERROR 0
#define DELETE (0x00010000L)
#define small char
#define interface struct
#define pascal
#define cdecl
#define GetObject GetObjectA
#define I _Complex_I
#define major(device) ((device) >> 8)
#define minor(device) ((device)&255)
